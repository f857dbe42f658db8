//! pqc-iiot-sim
