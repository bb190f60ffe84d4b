//! The I/O around the saga engine: store, executor, lease, recovery, flow control
