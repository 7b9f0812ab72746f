//! The control group (cgroup v2) of a worker: all that it starts is in it, whatever becomes of its
//! session or environment.
//!
//! Owns: finding the supervisor's own group, a group below it for each worker, and ending all that
//! is in one.
//! Never: sets a limit, moves the supervisor, or ends what is in a group that it did not make.
//! Holds: where workers get no group, the reason is known before the first is started.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, getpgid};

/// How long what was killed may take to be gone.
const EMPTY_WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// The supervisor's own group, below which it may make others.
#[derive(Debug)]
pub(super) struct OwnGroup(PathBuf);

impl OwnGroup {
    /// Finds it, and tries out what is needed of it.
    ///
    /// # Errors
    /// In words, why workers get no groups.
    pub fn find() -> Result<Self, String> {
        let read = |file: &str| fs::read_to_string(file).map_err(|fault| format!("`{file}`: {fault}"));
        let place = place(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
        let own = Self(place.ok_or("this system shows no cgroup v2")?);
        let shown = own.0.display();
        let tried = own.make(&format!("try-{}", std::process::id()));
        let tried =
            tried.map_err(|fault| format!("below `{shown}` no control group can be made: {fault}"))?;
        // To move a process the system asks for both.
        for group in [&own.0, &tried.0] {
            let file = group.join("cgroup.procs");
            OpenOptions::new()
                .write(true)
                .open(&file)
                .map_err(|fault| format!("`{}`: {fault}", file.display()))?;
        }
        if !tried.0.join("cgroup.kill").exists() {
            return Err("the system cannot end a control group as a whole; Linux 5.14 can".to_owned());
        }
        Ok(own)
    }

    /// A group that nobody is in yet.
    ///
    /// # Errors
    /// The system's.
    pub fn make(&self, name: &str) -> io::Result<Group> {
        let place = self.0.join(format!("swarmgate-{name}"));
        fs::create_dir(&place)?;
        Ok(Group(place))
    }
}

/// A worker's group. It goes when it is dropped, and all that is in it.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Ends all that is in it; how many of those were not of that process group, which was ended as
    /// a whole.
    pub fn end(&self, worker: Pid) -> usize {
        let others = self.members().filter(|member| getpgid(Some(*member)) != Ok(worker)).count();
        self.kill();
        let until = Instant::now() + EMPTY_WAIT;
        while self.members().next().is_some() && Instant::now() < until {
            thread::sleep(PAUSE);
        }
        others
    }

    /// Who is in it: what has ended and was not waited for is not.
    fn members(&self) -> impl Iterator<Item = Pid> + use<> {
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let numbers: Vec<Pid> =
            members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect();
        numbers.into_iter()
    }

    fn kill(&self) {
        // Where it fails, what is found by its environment is ended all the same.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        // One that is not empty yet stays behind, empty.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Puts this process into a group.
///
/// # Errors
/// The system's.
pub(super) fn join(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

/// Where the directory of one's own group is, by the system's two lists: the group's name, and what
/// of all groups is mounted where.
fn place(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, mounted) = (fields.next()?, fields.next()?);
        let is_unified = kind.split(' ').next() == Some("cgroup2");
        let below = Path::new(group).strip_prefix(root).ok().filter(|_| is_unified)?;
        Some(Path::new(mounted).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_group_is_found_where_it_is_mounted() {
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = place("0::/system.slice/swarmgate.service\n", unified);
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup/system.slice/swarmgate.service")));
        let old = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let both = format!("{old}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        assert_eq!(place("1:cpu:/a\n0::/\n", &both).as_deref(), Some(Path::new("/sys/fs/cgroup/unified/")));
        // Only a part of all groups is mounted.
        let part = "41 31 0:38 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(place("0::/box/in\n", part).as_deref(), Some(Path::new("/sys/fs/cgroup/in")));
        assert_eq!(place("0::/elsewhere\n", part), None);
        assert_eq!(place("1:cpu:/a\n", &both), None);
        assert_eq!(place("0::/\n", old), None);
    }
}
