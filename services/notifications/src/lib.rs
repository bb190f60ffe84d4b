//! Notifications: one message a finished registration
