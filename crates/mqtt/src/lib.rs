//! pqc-iiot-mqtt
