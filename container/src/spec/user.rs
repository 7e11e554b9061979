//! The user that an agent runs as inside its container.

use std::fmt;
use std::str::FromStr;

/// Numeric user and group inside the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// User id; never 0.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

/// The agent's user when root is the caller: the first user of most systems.
const ORDINARY: User = User {
    uid: 1000,
    gid: 1000,
};

/// The agent's user, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserChoice {
    /// The caller, but never root.
    Caller,
    /// This user.
    Ids(User),
}

/// The reason why there is no user to run the agent as.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoUser {
    #[error("only root can run an agent as another user than itself")]
    NotRoot,
    #[error("user {0} does not exist in this user namespace")]
    NotMapped(User),
    #[error("there is nobody but root in this user namespace")]
    OnlyRoot,
}

impl User {
    /// The user that runs the launcher.
    #[must_use]
    pub(crate) fn of_launcher() -> Self {
        Self {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// The agent's user in a container: the caller, so that files in mounted
    /// folders belong to them, but never root.
    pub(crate) fn of_agent(choice: UserChoice) -> Result<Self, NoUser> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let users = IdMap::parse(&read("/proc/self/uid_map"));
        let groups = IdMap::parse(&read("/proc/self/gid_map"));
        choose(choice, Self::of_launcher(), &users, &groups)
    }
}

/// The rule behind [`User::of_agent`].
fn choose(
    choice: UserChoice,
    launcher: User,
    users: &IdMap,
    groups: &IdMap,
) -> Result<User, NoUser> {
    match choice {
        // Users of macOS begin at 501; what matters is that it is not root.
        UserChoice::Caller if launcher.uid != 0 => Ok(launcher),
        UserChoice::Caller => match (users.nearest(ORDINARY.uid), groups.nearest(ORDINARY.gid)) {
            (Some(uid), Some(gid)) => Ok(User { uid, gid }),
            _ => Err(NoUser::OnlyRoot),
        },
        UserChoice::Ids(user) if user == launcher => Ok(user),
        UserChoice::Ids(_) if launcher.uid != 0 => Err(NoUser::NotRoot),
        UserChoice::Ids(user) if users.has(user.uid) && groups.has(user.gid) => Ok(user),
        UserChoice::Ids(user) => Err(NoUser::NotMapped(user)),
    }
}

/// The ids that exist in a user namespace, as `/proc/PID/uid_map` tells them;
/// see user_namespaces(7). Where there is no such file, all exist.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IdMap(Vec<(u32, u32)>);

impl IdMap {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let (inside, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some((inside.ok()?, count.ok()?))
        });
        let ranges: Vec<_> = lines.collect();
        match ranges.is_empty() {
            true => Self(vec![(0, u32::MAX)]),
            false => Self(ranges),
        }
    }

    fn has(&self, id: u32) -> bool {
        let mut ranges = self.0.iter();
        ranges.any(|(first, count)| id.checked_sub(*first).is_some_and(|at| at < *count))
    }

    /// The id itself, else the first that exists and is not root's.
    fn nearest(&self, id: u32) -> Option<u32> {
        if self.has(id) {
            return Some(id);
        }
        let starts = self.0.iter().map(|(first, _)| (*first).max(1));
        starts.filter(|id| self.has(*id)).min()
    }
}

impl FromStr for UserChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "\"caller\", or a user and group such as \"1000:1000\"; never user 0";
        if text == "caller" {
            return Ok(Self::Caller);
        }
        let (uid, gid) = text.split_once(':').ok_or(RULE)?;
        match (uid.parse(), gid.parse()) {
            (Ok(uid @ 1..), Ok(gid)) => Ok(Self::Ids(User { uid, gid })),
            _ => Err(RULE),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "         0          0 4294967295\n";

    fn agent(choice: &str, launcher: (u32, u32), map: &str) -> Result<String, NoUser> {
        let launcher = User {
            uid: launcher.0,
            gid: launcher.1,
        };
        let map = IdMap::parse(map);
        choose(choice.parse().unwrap(), launcher, &map, &map).map(|user| user.to_string())
    }

    #[test]
    fn the_agent_is_the_caller() {
        assert_eq!(agent("caller", (1234, 100), ALL).unwrap(), "1234:100");
        // The first user of macOS, which has no such map.
        assert_eq!(agent("caller", (501, 20), "").unwrap(), "501:20");
        // A rootless engine's caller, whose own namespace is the machine's.
        assert_eq!(agent("caller", (1000, 1000), ALL).unwrap(), "1000:1000");
    }

    #[test]
    fn roots_agent_is_not_root() {
        assert_eq!(agent("caller", (0, 0), ALL).unwrap(), "1000:1000");
        assert_eq!(agent("1500:7", (0, 0), ALL).unwrap(), "1500:7");
        for text in ["0:0", "0:1000", "root", "1000", "-1:1", ""] {
            text.parse::<UserChoice>().unwrap_err();
        }
    }

    #[test]
    fn in_a_user_namespace_only_its_own_users_exist() {
        let small = "0 100000 1\n1 165536 500\n";
        assert_eq!(agent("caller", (0, 0), small).unwrap(), "1:1");
        assert_eq!(agent("499:499", (0, 0), small).unwrap(), "499:499");
        assert_eq!(
            agent("1000:1000", (0, 0), small).unwrap_err().to_string(),
            "user 1000:1000 does not exist in this user namespace"
        );
        assert_eq!(agent("caller", (0, 0), "0 1000 1\n"), Err(NoUser::OnlyRoot));
    }

    #[test]
    fn only_root_chooses_somebody_else() {
        assert_eq!(agent("501:20", (501, 20), "").unwrap(), "501:20");
        assert_eq!(agent("1:1", (501, 20), ""), Err(NoUser::NotRoot));
    }
}
