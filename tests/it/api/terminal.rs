//! A terminal of 80 by 24 with a shell in it, on a tmux server of its own.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::gate::PATIENCE;

/// How often the screen is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A terminal; its server ends with it.
pub struct Terminal {
    server: String,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

impl Terminal {
    pub fn open() -> Self {
        static OPENED: AtomicU32 = AtomicU32::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { server: format!("swarmgate-test-{}-{number}", std::process::id()) };
        let shell = "env -u SWARMGATE_API -u SWARMGATE_CONFIG PS1='ready> ' sh";
        terminal.told(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell]);
        terminal.until("a shell", |screen| screen.starts_with("ready>"));
        terminal
    }

    /// Types the command; what it ended with is on the screen when it has.
    pub fn run(&mut self, args: &[&str]) {
        let line =
            format!("clear; {} {}; echo ended with $?", env!("CARGO_BIN_EXE_swarmgate"), args.join(" "));
        self.keys(&[&line, "Enter"]);
    }

    pub fn keys(&self, keys: &[&str]) {
        self.told(&[&["send-keys"], keys].concat());
    }

    /// What is on the screen, once it shows what is waited for.
    pub fn until(&self, what: &str, shows: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.told(&["capture-pane", "-p"]);
            if shows(&screen) {
                return screen;
            }
            assert!(started.elapsed() < PATIENCE, "still not: {what}\n{screen}");
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the alternate screen is shown, and the cursor.
    pub fn modes(&self) -> String {
        let format = "alternate=#{alternate_on} cursor=#{cursor_flag}";
        self.told(&["display-message", "-p", format]).trim_end().to_owned()
    }

    /// SIGTERM to what runs in the shell.
    pub fn signal_swarmgate(&self) {
        let shell = self.told(&["display-message", "-p", "#{pane_pid}"]);
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim()));
        let children = children.expect("the shell's children");
        let child = children.split_whitespace().next().expect("a child of the shell");
        assert!(Command::new("kill").args(["-TERM", child]).status().expect("kill").success());
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        // A session of ours is no session within another's.
        tmux.env_remove("TMUX").args(["-L", &self.server]);
        tmux
    }

    fn told(&self, args: &[&str]) -> String {
        let output = self.tmux().args(args).output().expect("tmux, which scripts/install-deps installs");
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
