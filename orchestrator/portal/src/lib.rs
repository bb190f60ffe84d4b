//! The gRPC API for portals
