//! A body as it was read: one block of text and one of nodes, whatever it holds.
//!
//! Owns: finding, walking and judging what a body says, without a copy of any part of it.
//! Never: reads a text (`strict` does), changes, or orders members otherwise than the body did.
//! Holds: an object names no key twice, and no integer is beyond ±(2^53−1), because `strict` made
//! it; a lookup where there is nothing finds nothing.

mod judged;

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

pub use judged::Judged;

/// The largest body: its places, and those of what its escapes stand for, are counted in 32 bits.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 30;
/// Bytes of a body for each of its values, as envelopes have them, and the most values that room is
/// made for at first: a large body has long texts as a rule.
const BYTES_PER_NODE: usize = 12;
const NODES_AT_FIRST_MAX: usize = 128;
/// From how many members on an object's keys are looked up by order; fewer are compared one by one.
const MEMBERS_COMPARED_MAX: usize = 16;

/// A value that was read.
#[derive(Clone, Default)]
pub struct Tree {
    /// The body, and behind it what its escapes stood for.
    text: String,
    nodes: Vec<Node>,
    root: u32,
}

/// A part of the text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

/// One value, with the key it has in its object. Its own members and items stand behind it, up to
/// `end`.
#[derive(Clone, Debug)]
struct Node {
    key: Span,
    item: Item,
    end: u32,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(Span),
    /// So many items.
    Array(u32),
    /// So many members.
    Object(u32),
}

/// What stands where nothing does.
static NOTHING: Node = Node { key: Span { start: 0, length: 0 }, item: Item::Null, end: 0 };

impl Tree {
    /// Room for the values of a body.
    pub(super) fn of(body: &str) -> Self {
        let nodes = (body.len() / BYTES_PER_NODE + 1).min(NODES_AT_FIRST_MAX);
        Self { text: body.to_owned(), nodes: Vec::with_capacity(nodes), root: 0 }
    }

    /// The value itself.
    pub fn root(&self) -> View<'_> {
        View { tree: self, at: self.root }
    }

    /// The same text with another value of it as the root.
    pub(super) fn rooted(self, root: u32) -> Self {
        Self { root, ..self }
    }

    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<View<'_>> {
        self.root().get(name)
    }

    /// The part of `body`, the text that this tree was made for, that a text stands in.
    pub(super) fn span_of(body: &str, part: &str) -> Span {
        let start = (part.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
        Span { start: start as u32, length: part.len() as u32 }
    }

    /// Keeps a text that does not stand in the body as it is.
    pub(super) fn spill(&mut self, part: &str) -> Span {
        let span = Span { start: self.text.len() as u32, length: part.len() as u32 };
        self.text.push_str(part);
        span
    }

    pub(super) fn str(&self, span: Span) -> &str {
        let start = span.start as usize;
        self.text.get(start..start + span.length as usize).unwrap_or_default()
    }

    /// Adds a value; what is added until [`Tree::close`] is within it.
    pub(super) fn open(&mut self, key: Span, item: Item) -> u32 {
        let at = self.nodes.len() as u32;
        self.nodes.push(Node { key, item, end: at + 1 });
        at
    }

    /// Ends an array or object.
    pub(super) fn close(&mut self, at: u32, item: Item) {
        let end = self.nodes.len() as u32;
        if let Some(node) = self.nodes.get_mut(at as usize) {
            (node.item, node.end) = (item, end);
        }
    }

    /// Whether the last member that was added to the open object at `at` has the key of one before
    /// it.
    pub(super) fn repeats(&self, at: u32, last: u32, keys: &mut Keys, count: usize) -> bool {
        let key = self.nodes.get(last as usize).map_or("", |node| self.str(node.key));
        if count <= MEMBERS_COMPARED_MAX {
            return self.before(at, last).any(|other| other == key);
        }
        if keys.0.is_empty() {
            keys.0 = self.before(at, last).map(Box::from).collect();
        }
        !keys.0.insert(key.into())
    }

    /// The keys of the open object at `at` before the member at `last`.
    fn before(&self, at: u32, last: u32) -> impl Iterator<Item = &str> {
        let mut next = at + 1;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize).filter(|_| next < last)?;
            next = node.end;
            Some(self.str(node.key))
        })
    }
}

/// The keys of a large object while it is read.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeSet<Box<str>>);

impl fmt::Debug for Tree {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root().to_value().fmt(out)
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.root().to_value() == other.root().to_value()
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root().serialize(serializer)
    }
}

impl From<Tree> for Value {
    fn from(tree: Tree) -> Self {
        tree.root().to_value()
    }
}

/// A value within a tree.
#[derive(Clone, Copy)]
pub struct View<'t> {
    tree: &'t Tree,
    at: u32,
}

impl<'t> View<'t> {
    fn node(self) -> &'t Node {
        self.tree.nodes.get(self.at as usize).unwrap_or(&NOTHING)
    }

    /// Its place in the tree.
    pub(super) fn at(self) -> u32 {
        self.at
    }

    /// The member of that name.
    pub fn get(self, name: &str) -> Option<View<'t>> {
        let is_object = matches!(self.node().item, Item::Object(_));
        let is_it = |key: Span| key.length as usize == name.len() && self.tree.str(key) == name;
        self.children(is_object).find(|member| is_it(member.node().key))
    }

    /// What a JSON pointer without escapes finds among members (RFC 6901).
    pub fn pointer(self, pointer: &str) -> Option<View<'t>> {
        pointer.split('/').skip(1).try_fold(self, View::get)
    }

    /// The members in the body's order; none where it is no object.
    pub fn members(self) -> impl Iterator<Item = (&'t str, View<'t>)> {
        let is_object = matches!(self.node().item, Item::Object(_));
        self.children(is_object).map(|child| (self.tree.str(child.node().key), child))
    }

    /// The items in order; none where it is no array.
    pub fn items(self) -> Children<'t> {
        let is_array = matches!(self.node().item, Item::Array(_));
        self.children(is_array)
    }

    fn children(self, has_any: bool) -> Children<'t> {
        let end = if has_any { self.node().end } else { self.at };
        Children { tree: self.tree, next: self.at + 1, end }
    }

    /// How many members or items it has.
    pub fn count(self) -> usize {
        match self.node().item {
            Item::Array(count) | Item::Object(count) => count as usize,
            _ => 0,
        }
    }

    /// It and every value within it, in the body's order, each with the key that it has in its
    /// object.
    pub(super) fn all(self) -> impl Iterator<Item = (&'t str, View<'t>)> {
        (self.at..self.node().end).map(move |at| {
            let view = View { tree: self.tree, at };
            (self.tree.str(view.node().key), view)
        })
    }

    pub(super) fn item(self) -> &'t Item {
        &self.node().item
    }

    /// Its text.
    pub fn as_str(self) -> Option<&'t str> {
        match self.node().item {
            Item::Text(span) => Some(self.tree.str(span)),
            _ => None,
        }
    }

    /// Its truth.
    pub fn as_bool(self) -> Option<bool> {
        match self.node().item {
            Item::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// Its number.
    pub fn as_number(self) -> Option<&'t Number> {
        match &self.node().item {
            Item::Number(number) => Some(number),
            _ => None,
        }
    }

    /// Its number, where that is whole and not negative.
    pub fn as_u64(self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        matches!(self.node().item, Item::Object(_))
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        matches!(self.node().item, Item::Array(_))
    }

    /// A copy of it that stands for itself.
    pub fn to_value(self) -> Value {
        match self.item() {
            Item::Null => Value::Null,
            Item::Bool(truth) => Value::Bool(*truth),
            Item::Number(number) => Value::Number(number.clone()),
            Item::Text(span) => Value::String(self.tree.str(*span).to_owned()),
            Item::Array(_) => Value::Array(self.items().map(View::to_value).collect()),
            Item::Object(_) => {
                let members = self.members().map(|(key, member)| (key.to_owned(), member.to_value()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.item() {
            Item::Null => serializer.serialize_unit(),
            Item::Bool(truth) => serializer.serialize_bool(*truth),
            Item::Number(number) => number.serialize(serializer),
            Item::Text(span) => serializer.serialize_str(self.tree.str(*span)),
            Item::Array(_) => serializer.collect_seq(self.items()),
            Item::Object(_) => serializer.collect_map(self.members()),
        }
    }
}

/// Values beside each other.
#[derive(Clone)]
pub struct Children<'t> {
    tree: &'t Tree,
    next: u32,
    end: u32,
}

impl<'t> Iterator for Children<'t> {
    type Item = View<'t>;

    fn next(&mut self) -> Option<View<'t>> {
        if self.next >= self.end {
            return None;
        }
        let view = View { tree: self.tree, at: self.next };
        self.next = view.node().end.max(self.next + 1);
        Some(view)
    }
}
