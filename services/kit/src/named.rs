//! Values of a fixed set, which are stored by their names.

/// A value of a fixed set.
pub trait NamedValue: Copy + PartialEq + 'static {
    /// Every value, with the name under which it is stored.
    const NAMES: &'static [(Self, &'static str)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(value, _)| *value == self).map_or("", |(_, name)| name)
    }

    /// The value of a name.
    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
    }
}
