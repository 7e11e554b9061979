//! Processes: children that speak lines, the end together with the parent, and
//! the reaper at the top of a container.

pub(crate) mod child;
pub(crate) mod die_with_parent;
pub(crate) mod reaper;
pub(crate) mod shell;
