//! A command that runs beside the test. It is ended when its value is dropped, also when the test fails.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Output};

/// A running command.
pub struct RunningCommand {
    /// `None` only while it is being consumed.
    child: Option<Child>,
}

impl RunningCommand {
    /// Waits for its end, and returns what it has printed.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.child.take().expect("it is consumed once").wait_with_output()
    }
}

impl From<Child> for RunningCommand {
    fn from(child: Child) -> Self {
        Self { child: Some(child) }
    }
}

impl Deref for RunningCommand {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.child.as_ref().expect("it is not consumed")
    }
}

impl DerefMut for RunningCommand {
    fn deref_mut(&mut self) -> &mut Child {
        self.child.as_mut().expect("it is not consumed")
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
