//! The certificates of `amqps://`, from where the config says they are.
//!
//! Owns: reading authorities, our own certificate and its key, each anew for every connection.
//! Never: keeps what it read, or shows a part of it.
//! Holds: a file of certificates has at most `PEM_BYTES_MAX`, a key `KEY_BYTES_MAX`; beyond, the
//! setting is named.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    bus::tls::{KeyPem, TlsChoice, TlsClient, TlsFault, TlsMaterial, TlsSource},
    config,
    keys::SecretRef,
    ledger::files,
};

/// The longest file of certificates; a system's whole list has some 250 KiB.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// The longest key file; that of a certificate and its key together fits.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// Where the certificates of a config are.
pub struct Certificates {
    ca_file: Option<PathBuf>,
    client: Option<(PathBuf, Option<String>)>,
}

impl Certificates {
    /// Those of a config; none where it leaves all to the system.
    pub fn of(config: &config::Tls) -> TlsChoice {
        let config::Tls { ca_file, cert_file, key_ref } = config.clone();
        (ca_file.is_some() || cert_file.is_some()).then(|| {
            let client = cert_file.map(|file| (file, key_ref));
            Arc::new(Self { ca_file, client }) as Arc<dyn TlsSource>
        })
    }
}

impl TlsSource for Certificates {
    fn read(&self) -> Result<TlsMaterial, TlsFault> {
        let ca_file = self.ca_file.as_ref();
        let ca_pem = ca_file.map(|path| pem("amqp.tls.ca_file", path)).transpose()?;
        let client = self.client.as_ref().map(|(path, key_ref)| {
            let certificate_pem = pem("amqp.tls.cert_file", path)?;
            Ok(TlsClient { certificate_pem, key_pem: key(key_ref.as_deref())? })
        });
        Ok(TlsMaterial { ca_pem, client: client.transpose()? })
    }

    fn has_client(&self) -> bool {
        self.client.is_some()
    }
}

fn pem(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsFault> {
    let read = || -> io::Result<Vec<u8>> {
        let mut pem = Vec::new();
        // One byte more than may be tells a file that is too long from one that just fits.
        files::open_to_read(path)?.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem)?;
        if pem.len() as u64 > PEM_BYTES_MAX {
            let fault = format!("it is longer than {PEM_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, fault));
        }
        Ok(pem)
    };
    read().map_err(|fault| TlsFault::Unusable { setting, reason: format!("`{}`: {fault}", path.display()) })
}

fn key(key_ref: Option<&str>) -> Result<KeyPem, TlsFault> {
    let unusable = |reason: String| TlsFault::Unusable { setting: "amqp.tls.key_ref", reason };
    let key_ref = key_ref.ok_or_else(|| unusable("it is not set".to_owned()))?;
    let key_ref: SecretRef = key_ref.parse().map_err(|fault| unusable(format!("{fault}")))?;
    let bytes = key_ref.bytes(KEY_BYTES_MAX).map_err(|fault| unusable(fault.to_string()))?;
    Ok(KeyPem::new(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn unusable(tls: config::Tls) -> (&'static str, String) {
        let read = Certificates::of(&tls).map(|source| source.read());
        match read {
            Some(Err(TlsFault::Unusable { setting, reason })) => (setting, reason),
            _ => panic!("it can be used: {tls:?}"),
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_setting_and_no_key_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &[u8], mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let of = |ca_file: Option<PathBuf>, cert_file: Option<PathBuf>, key_ref: Option<&str>| {
            unusable(config::Tls { ca_file, cert_file, key_ref: key_ref.map(str::to_owned) })
        };
        assert!(Certificates::of(&config::Tls::default()).is_none());
        let absent = dir.path().join("absent");
        let (setting, reason) = of(Some(absent.clone()), None, None);
        assert!(setting == "amqp.tls.ca_file" && reason.contains("absent"), "{setting}: {reason}");
        let (setting, reason) = of(Some(dir.path().to_owned()), None, None);
        assert!(setting == "amqp.tls.ca_file" && reason.contains("no regular file"), "{setting}: {reason}");
        let long = put("long", &vec![b'x'; PEM_BYTES_MAX as usize + 1], 0o644);
        let (setting, reason) = of(None, Some(long), Some("env:PATH"));
        assert!(setting == "amqp.tls.cert_file" && reason.contains("1048576 bytes"), "{setting}: {reason}");
        let cert = put("cert", b"a certificate", 0o644);
        let open = put("key", b"canary", 0o644);
        for (key_ref, told) in [
            (None, "is not set"),
            (Some("canary".to_owned()), "neither"),
            (Some("env:SWARMGATE_NOBODY_SETS_THIS".to_owned()), "is not set"),
            (Some(format!("file:{}", open.display())), "chmod 600"),
        ] {
            let (setting, reason) = of(None, Some(cert.clone()), key_ref.as_deref());
            assert!(setting == "amqp.tls.key_ref" && reason.contains(told), "{setting}: {reason}");
            assert!(!reason.contains("canary"), "{reason}");
        }
    }
}
