//! Shared drivers for the integration tests beside this file.
