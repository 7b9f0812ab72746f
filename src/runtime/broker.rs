//! The broker's addresses, and to which of them the next connection is made.
//!
//! Owns: the order in which they are tried, and how an error names them.
//! Never: leaves an address for another while its connection stands.
//! Holds: where there are several, one that does not answer delays the next by
//! `amqp.connect_next_ms` and no more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{certificates::Certificates, link::Connector};
use crate::bus::{
    Bus, BusError,
    amqp::{self, Amqp, Options},
    backoff::Backoff,
    tls::TlsFault,
};
use crate::{clock, config::Config};

/// Connects to the broker that a config names, at one of its addresses.
pub struct Broker {
    addresses: Vec<Options>,
    /// The address that is tried first: the last good one.
    first: AtomicUsize,
    next_after: Duration,
    backoff: Backoff,
    /// The consumer priority of the last connection.
    priority: AtomicI64,
}

impl Broker {
    /// The broker of a config.
    pub fn new(config: &Config) -> Self {
        let amqp = &config.amqp;
        let tls = Certificates::of(&amqp.tls);
        let options = |url: &str| Options {
            name: format!("swarmgate {}", config.instance),
            heartbeat_s: amqp.heartbeat_s,
            connect_timeout_ms: amqp.connect_timeout_ms,
            tls: tls.clone(),
            ..Options::new(url)
        };
        let mut seed = [0; 8];
        // Without random bits routers may come back all at once, and come back all the same.
        let _ = getrandom::fill(&mut seed);
        let backoff = Backoff::new(amqp.reconnect_min_ms, amqp.reconnect_max_ms, u64::from_ne_bytes(seed));
        Self {
            addresses: amqp.addresses().iter().map(|url| options(url.expose())).collect(),
            first: AtomicUsize::new(0),
            next_after: Duration::from_millis(amqp.connect_next_ms),
            backoff,
            priority: AtomicI64::new(0),
        }
    }

    /// Connects once, at the first address that answers; the last good one is tried first.
    ///
    /// # Errors
    /// `Unreachable` or `Tls`, naming every address without its password.
    pub async fn open(&self) -> Result<Arc<Amqp>, BusError> {
        let first = self.first.load(Relaxed);
        let mut order: Vec<usize> = (0..self.addresses.len()).collect();
        // Stable: the others stay in the order of the config.
        order.sort_by_key(|index| *index != first);
        let (addresses, consumer_priority) = (&self.addresses, self.next_priority());
        let dial = |index: usize| async move {
            match addresses.get(index) {
                Some(options) => amqp::connect(&Options { consumer_priority, ..options.clone() }).await,
                None => Err(unreachable(addresses, Vec::new())),
            }
        };
        match first_of(&order, self.next_after, dial).await {
            Ok((index, bus)) => {
                self.first.store(index, Relaxed);
                Ok(bus)
            }
            Err(faults) => Err(unreachable(addresses, faults)),
        }
    }

    /// A higher consumer priority than that of every connection before. A consumer at a node that
    /// hangs counts as there for a minute, and would go on getting half of all messages.
    fn next_priority(&self) -> i64 {
        // By the wall's time: a process that begins anew comes above the one before it.
        let now_ms = clock::wall().micros() / 1_000;
        let later = |last: i64| Some(now_ms.max(last + 1));
        let last = self.priority.fetch_update(Relaxed, Relaxed, later).unwrap_or_default();
        now_ms.max(last + 1)
    }

    /// How to connect to the last good address alone.
    pub fn options(&self) -> Option<&Options> {
        self.addresses.get(self.first.load(Relaxed))
    }

    /// Every address without user and password, as errors name them.
    pub fn shown(&self) -> String {
        shown(&self.addresses)
    }

    /// How to connect to each address alone.
    pub fn addresses(&self) -> &[Options] {
        &self.addresses
    }
}

#[async_trait]
impl Connector for Broker {
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError> {
        let bus: Arc<dyn Bus> = self.open().await?;
        Ok(bus)
    }

    fn pause_ms(&self, attempt: u32) -> u64 {
        self.backoff.pause_ms(attempt)
    }

    fn disappointed(&self) {
        let others = |first: usize| Some((first + 1) % self.addresses.len().max(1));
        let _ = self.first.fetch_update(Relaxed, Relaxed, others);
    }
}

/// Dials one after another: the next as soon as one has failed or has not answered for so long. The
/// first that is through is taken, and the others are let go of.
async fn first_of<T, D>(
    order: &[usize],
    next_after: Duration,
    dial: impl Fn(usize) -> D,
) -> Result<(usize, T), Vec<(usize, BusError)>>
where
    D: Future<Output = Result<T, BusError>>,
{
    let mut left = order.iter().copied();
    let (mut dialling, mut faults) = (FuturesUnordered::new(), Vec::new());
    loop {
        if let Some(index) = left.next() {
            let connecting = dial(index);
            dialling.push(async move { (index, connecting.await) });
        }
        let is_last = left.len() == 0;
        tokio::select! {
            done = dialling.next() => match done {
                Some((index, Ok(made))) => return Ok((index, made)),
                Some((index, Err(fault))) => faults.push((index, fault)),
                None => return Err(faults),
            },
            () = tokio::time::sleep(next_after), if !is_last => {}
        }
    }
}

/// All that was tried as one error, in the order of the config.
fn unreachable(addresses: &[Options], mut faults: Vec<(usize, BusError)>) -> BusError {
    faults.sort_by_key(|(index, _)| *index);
    if let Some(fault) = common(&faults) {
        return BusError::Tls { address: shown(addresses), fault };
    }
    let reason = |fault: &BusError| match fault {
        BusError::Unreachable { reason, .. } => reason.clone(),
        BusError::Tls { fault, .. } => format!("{fault} ({})", fault.help()),
        other => other.to_string(),
    };
    let mut reasons: Vec<String> = faults.iter().map(|(_, fault)| reason(fault)).collect();
    if reasons.windows(2).all(|two| two.first() == two.last()) {
        // Several times the same says no more.
        reasons.truncate(1);
    }
    BusError::Unreachable { address: shown(addresses), reason: reasons.join("; ") }
}

/// The fault of TLS that every address has.
fn common(faults: &[(usize, BusError)]) -> Option<TlsFault> {
    let mut each = faults.iter().map(|(_, fault)| match fault {
        BusError::Tls { fault, .. } => Some(fault),
        _ => None,
    });
    let first = each.next()??;
    each.all(|other| other == Some(first)).then(|| first.clone())
}

fn shown(addresses: &[Options]) -> String {
    let shown: Vec<String> = addresses.iter().map(|options| amqp::address(&options.url)).collect();
    shown.join("`, `")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn refused() -> BusError {
        BusError::Unreachable { address: "there".to_owned(), reason: "refused".to_owned() }
    }

    /// What each address does: answers after so long, or refuses after so long (`false`).
    async fn dialled(order: &[usize], answers: &[(u64, bool)]) -> (Option<usize>, Vec<usize>) {
        let tried = Mutex::new(Vec::new());
        let dial = |index: usize| {
            tried.lock().unwrap().push(index);
            let (after_ms, is_good) = answers[index];
            async move {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                if is_good { Ok(()) } else { Err(refused()) }
            }
        };
        let found = first_of(order, Duration::from_millis(100), dial).await;
        (found.ok().map(|(index, ())| index), tried.into_inner().unwrap())
    }

    #[tokio::test]
    async fn the_first_that_answers_is_taken() {
        const NEVER_MS: u64 = 1_000_000;
        for (order, answers, expected) in [
            // The first is good: no other is tried.
            (vec![1, 0, 2], [(0, true), (0, true), (0, true)], (Some(1), vec![1])),
            // A refusal leads to the next at once, silence after its time.
            (vec![0, 1, 2], [(0, false), (0, false), (0, true)], (Some(2), vec![0, 1, 2])),
            (vec![0, 1, 2], [(NEVER_MS, true), (0, true), (0, true)], (Some(1), vec![0, 1])),
            // Who is merely slow is not lost by it.
            (vec![0, 1, 2], [(150, true), (NEVER_MS, true), (0, false)], (Some(0), vec![0, 1])),
            (vec![2, 0, 1], [(0, false), (0, false), (50, false)], (None, vec![2, 0, 1])),
        ] {
            assert_eq!(dialled(&order, &answers).await, expected, "{order:?} {answers:?}");
        }
    }

    #[test]
    fn an_error_names_every_address_and_no_password() {
        let addresses: Vec<Options> =
            ["one", "two"].map(|host| Options::new(format!("amqp://user:canary@{host}/v"))).into();
        let silent = BusError::Unreachable { address: String::new(), reason: "no answer".to_owned() };
        let told = unreachable(&addresses, vec![(1, silent), (0, refused())]).to_string();
        assert_eq!(
            told,
            "the broker at `amqp://one:5672/v`, `amqp://two:5672/v` cannot be reached: refused; no answer"
        );
        let expired = || BusError::Tls { address: "one".to_owned(), fault: TlsFault::Expired(String::new()) };
        let both = unreachable(&addresses, vec![(1, expired()), (0, expired())]);
        assert!(matches!(&both, BusError::Tls { fault: TlsFault::Expired(_), .. }), "{both}");
        assert!(both.to_string().contains("`amqp://one:5672/v`, `amqp://two:5672/v`"), "{both}");
        let mixed = unreachable(&addresses, vec![(1, expired()), (0, refused())]).to_string();
        assert!(mixed.contains("cannot be reached: refused; its certificate"), "{mixed}");
        assert!(mixed.contains("renew the broker's certificate"), "what to do? {mixed}");
        let told = unreachable(&addresses, vec![(0, refused()), (1, refused())]).to_string();
        assert!(told.ends_with("cannot be reached: refused"), "{told}");
    }
}
