//! A secret by reference: where it is, and how it is read from there.
//!
//! Owns: the forms `env:NAME` and `file:PATH`, and the conditions on a file.
//! Never: takes a secret that is written in a config itself; a reference that is none is not
//! repeated in its error.
//! Holds: what is checked of a file is checked on the descriptor that is read.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::PathBuf,
    str::FromStr,
};

use zeroize::Zeroizing;

use super::{KeyError, SecretPlace};
use crate::contract::control::{MasterSecret, secret::SECRET_BYTES_MAX};

/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;
/// A line end that editors leave behind the last line.
const LINE_END_BYTES_MAX: usize = 2;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`.
    Variable(String),
    /// `file:PATH`.
    File(PathBuf),
}

impl FromStr for SecretRef {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(SecretRef::Variable(name.to_owned()))
            }
            Some(("file", path)) if !path.is_empty() && !path.contains('\0') => {
                Ok(SecretRef::File(path.into()))
            }
            _ => Err(KeyError::Reference),
        }
    }
}

impl SecretRef {
    /// Reads the secret. Of a file, one line end at its end is no part of it.
    ///
    /// # Errors
    /// Why there is none; never with a part of what was read.
    pub fn resolve(&self) -> Result<MasterSecret, KeyError> {
        let bytes = self.read(SECRET_BYTES_MAX)?;
        MasterSecret::new(bytes).map_err(|fault| KeyError::Unfit { place: self.place(), fault })
    }

    /// Reads the bytes of a secret that is no master secret, in the same way.
    ///
    /// # Errors
    /// The same, and where it is empty or longer than that.
    pub fn bytes(&self, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = self.read(bytes_max)?;
        match bytes.len() {
            length if (1..=bytes_max).contains(&length) => Ok(bytes),
            _ => Err(KeyError::Size { place: self.place(), bytes_max }),
        }
    }

    fn place(&self) -> SecretPlace {
        match self {
            SecretRef::Variable(name) => SecretPlace::Variable(name.clone()),
            SecretRef::File(path) => SecretPlace::File(path.clone()),
        }
    }

    /// Of what is longer than that, a little more than that.
    fn read(&self, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let place = self.place();
        match self {
            SecretRef::Variable(name) => {
                let value = env::var_os(name).map(OsString::into_vec).map(Zeroizing::new);
                value.ok_or(KeyError::Unset { place })
            }
            SecretRef::File(path) => {
                // What is a pipe is told by its kind, and not waited for.
                let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
                let file = opened.map_err(|source| KeyError::Unreadable { place: place.clone(), source })?;
                read(&file, &place, bytes_max)
            }
        }
    }
}

fn read(file: &File, place: &SecretPlace, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { place: place.clone(), source };
    let open = |fault| Err(KeyError::Open { place: place.clone(), fault });
    let told = file.metadata().map_err(unreadable)?;
    if !told.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    if told.mode() & OTHERS != 0 {
        return open("may be read or written by others than its owner");
    }
    // What belongs to root, root has put there; anybody else's could be changed by them.
    if told.uid() != 0 && told.uid() != rustix::process::geteuid().as_raw() {
        return open("belongs to another user");
    }
    let bytes_max = bytes_max.saturating_add(LINE_END_BYTES_MAX);
    // One more than fits, so that too much is seen. Reserved at once: a buffer that grows leaves
    // copies behind.
    let read_max = bytes_max.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(read_max));
    file.take(read_max as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn put(dir: &Path, content: &[u8], mode: u32) -> SecretRef {
        let path = dir.join("secret");
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        format!("file:{}", path.display()).parse().unwrap()
    }

    #[test]
    fn references_have_two_forms() {
        assert_eq!("env:A".parse::<SecretRef>().unwrap(), SecretRef::Variable("A".into()));
        assert_eq!("file:a:b".parse::<SecretRef>().unwrap(), SecretRef::File("a:b".into()));
        for text in ["", "canary", "env:", "file:", "env:A=B", "ENV:A", "vault:canary", "env"] {
            let error = text.parse::<SecretRef>().unwrap_err();
            assert!(matches!(error, KeyError::Reference) && !format!("{error} {error:?}").contains("canary"));
        }
    }

    #[test]
    fn a_variable_is_read_as_it_is() {
        // `PATH` is set wherever cargo runs.
        let expected = env::var_os("PATH").unwrap();
        let secret = "env:PATH".parse::<SecretRef>().unwrap().resolve().unwrap();
        assert_eq!(secret.expose(), expected.as_encoded_bytes());
        let unset = "env:SWARMGATE_NOBODY_SETS_THIS".parse::<SecretRef>().unwrap().resolve().unwrap_err();
        assert!(unset.to_string().contains("`SWARMGATE_NOBODY_SETS_THIS` is not set"), "{unset}");
    }

    #[test]
    fn a_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (content, secret) in [
            (&b"canary"[..], &b"canary"[..]),
            (b"canary\n", b"canary"),
            (b"canary\r\n", b"canary"),
            (b"canary\n\n", b"canary\n"),
            (b"\x00\xff", b"\x00\xff"),
        ] {
            let resolved = put(dir.path(), content, 0o600).resolve().unwrap();
            assert_eq!(resolved.expose(), secret);
        }
        assert!(put(dir.path(), b"canary", 0o400).resolve().is_ok());
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601, 0o666] {
            let error = put(dir.path(), b"canary", mode).resolve().unwrap_err();
            assert!(matches!(error, KeyError::Open { .. }), "{mode:o}");
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for content in [vec![], b"\n".to_vec(), vec![1; SECRET_BYTES_MAX + 1], vec![1; 100_000]] {
            let error = put(dir.path(), &content, 0o600).resolve().unwrap_err();
            assert!(matches!(error, KeyError::Unfit { .. }), "{}", content.len());
        }
        let mut longest = vec![1; SECRET_BYTES_MAX];
        longest.push(b'\n');
        assert!(put(dir.path(), &longest, 0o600).resolve().is_ok());
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [dir.path().to_path_buf(), dir.path().join("absent"), pipe] {
            let error = SecretRef::File(path).resolve().unwrap_err();
            assert!(matches!(error, KeyError::Unreadable { .. }), "{error}");
        }
        for (content, is_good) in [(vec![], false), (vec![1; 8], true), (vec![1; 9], false)] {
            assert_eq!(put(dir.path(), &content, 0o600).bytes(8).is_ok(), is_good, "{content:?}");
        }
    }
}
