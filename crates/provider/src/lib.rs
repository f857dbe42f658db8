//! pqc-iiot-provider
