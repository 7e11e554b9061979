//! Processes: children that speak lines, a life that ends with the parent's, and
//! the reaper at the top of a container.

pub(crate) mod child;
pub(crate) mod die_with_parent;
pub(crate) mod reaper;
pub(crate) mod shell;
