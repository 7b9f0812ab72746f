//! Names by number: a name that many instances share is kept once.
//!
//! Owns: the numbering of swarms, roles, instances and queues, and the pool of builds that
//! instances share.
//! Never: gives a number to two names at a time, or keeps a name that nobody uses.
//! Holds: `text(take(name)) == name` until it was released as often as it was taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::status::Build;

/// Names, each with a small number while it is in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    numbers: BTreeMap<Arc<str>, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    text_bytes: usize,
}

#[derive(Clone, Debug)]
struct Slot {
    text: Arc<str>,
    uses: u32,
}

impl Names {
    /// The number of a name, used once more.
    pub fn take(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            if let Some(slot) = self.slot(number) {
                slot.uses = slot.uses.saturating_add(1);
            }
            return number;
        }
        let text: Arc<str> = Arc::from(text);
        self.text_bytes += text.len();
        let new = Slot { text: Arc::clone(&text), uses: 1 };
        let number = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slot(number) {
            Some(slot) => *slot = new,
            None => self.slots.push(new),
        }
        self.numbers.insert(text, number);
        number
    }

    /// Ends one use of a number; after the last it is free for another name.
    pub fn release(&mut self, number: u32) {
        let Some(slot) = self.slot(number) else { return };
        slot.uses = slot.uses.saturating_sub(1);
        if slot.uses > 0 {
            return;
        }
        let text = std::mem::replace(&mut slot.text, Arc::from(""));
        self.text_bytes -= text.len();
        self.numbers.remove(&text);
        self.free.push(number);
    }

    /// The number of a name that is in use.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The name of a number.
    pub fn text(&self, number: u32) -> &str {
        self.slots.get(number as usize).map_or("", |slot| &slot.text)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// What they take up on the heap, about.
    pub fn bytes(&self) -> usize {
        // The two counters of an `Arc`, and trees that are two thirds full.
        let entry = (size_of::<Arc<str>>() + size_of::<u32>()) * 3 / 2 + 16;
        self.text_bytes
            + self.numbers.len() * entry
            + self.slots.capacity() * size_of::<Slot>()
            + self.free.capacity() * size_of::<u32>()
    }

    fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(number as usize)
    }
}

/// Builds that are kept once however many instances run them, and dropped some time after the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Builds {
    pool: BTreeSet<Arc<Build>>,
    sweep_at_count: usize,
}

impl Builds {
    const SWEEP_COUNT_MIN: usize = 64;

    pub fn len(&self) -> usize {
        self.pool.len()
    }

    /// How many there are at most, of so many instances.
    pub const fn pool_max(instances: usize) -> usize {
        instances.saturating_mul(2).saturating_add(Self::SWEEP_COUNT_MIN)
    }

    /// The shared form of a build, which names no container: that is each instance's own.
    pub fn share(&mut self, build: &Build) -> Arc<Build> {
        let build = Build { container_id: None, ..build.clone() };
        if let Some(known) = self.pool.get(&build) {
            return Arc::clone(known);
        }
        // A sweep each time the pool has doubled costs each build a constant.
        if self.pool.len() >= self.sweep_at_count.max(Self::SWEEP_COUNT_MIN) {
            // One of the counts is the pool's own.
            self.pool.retain(|build| Arc::strong_count(build) > 1);
            self.sweep_at_count = self.pool.len() * 2;
        }
        let build = Arc::new(build);
        self.pool.insert(Arc::clone(&build));
        build
    }

    /// What they take up on the heap, about.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len() + 16);
        let texts = |build: &Build| text(&build.image) + text(&build.stack_name);
        let ids = |build: &Build| build.run_id.len() + build.template_id.len() + 32;
        let each = size_of::<Build>() + 16 + size_of::<Arc<Build>>() * 3 / 2;
        self.pool.iter().map(|build| each + texts(build) + ids(build)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_again_once_nobody_uses_it() {
        let mut names = Names::default();
        let (first, other) = (names.take("a"), names.take("b"));
        assert_eq!(names.take("a"), first);
        names.release(first);
        assert_eq!((names.find("a"), names.text(first)), (Some(first), "a"));
        names.release(first);
        assert_eq!((names.find("a"), names.text(first)), (None, ""));
        assert_eq!(names.take("c"), first, "the free number is given again");
        assert_eq!((names.text(first), names.text(other)), ("c", "b"));
        assert_eq!(names.text_bytes, 2);
    }

    #[test]
    fn a_build_is_kept_once_and_not_for_ever() {
        let build = |image: &str, container: &str| Build {
            container_id: Some(Arc::from(container)),
            image: Some(Arc::from(image)),
            run_id: Arc::from("r"),
            stack_name: None,
            template_id: Arc::from("t"),
        };
        let mut builds = Builds::default();
        let held = builds.share(&build("gen:1", "a"));
        assert!(Arc::ptr_eq(&held, &builds.share(&build("gen:1", "b"))));
        assert_eq!(held.container_id, None);
        for number in 0..1_000 {
            builds.share(&build(&format!("gen:1.{number}"), "c"));
        }
        assert!(builds.pool.len() <= 2 * Builds::SWEEP_COUNT_MIN, "{} are kept", builds.pool.len());
        assert!(builds.pool.contains(&held), "what is held stays");
    }
}
