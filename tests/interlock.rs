//! The interlock against a second reading of its specification.
//!
//! Owns: an oracle that was written from the texts of the specification and shares no code with the
//! crate, a driver that speaks to the real corridor in envelopes, and five ways of comparing the
//! two: the whole table of commands by state, the whole table of types by setting, random stories,
//! every story of a small world, and every order of the words of control sessions.
//! Never: takes an answer from the crate to be right.
//! Holds: 0 differences but those that an ignored test names as open. `SWARMGATE_PROVE=1` tells
//! 100,000 random stories and the small world eight words deep; `INTERLOCK_SEED=17` tells one
//! story.

#[path = "interlock/adapter.rs"]
mod adapter;
#[path = "interlock/exhaustive.rs"]
mod exhaustive;
#[path = "interlock/found.rs"]
mod found;
#[path = "interlock/gates.rs"]
mod gates;
#[path = "interlock/history.rs"]
mod history;
#[path = "interlock/model.rs"]
mod model;
#[path = "interlock/oracle.rs"]
mod oracle;
#[path = "interlock/player.rs"]
mod player;
#[path = "interlock/rows.rs"]
mod rows;
#[path = "interlock/sessions.rs"]
mod sessions;
#[path = "interlock/stories.rs"]
mod stories;
#[path = "interlock/table.rs"]
mod table;
#[path = "interlock/types.rs"]
mod types;
#[path = "interlock/unconfirmed.rs"]
mod unconfirmed;
#[path = "interlock/words.rs"]
mod words;
#[path = "interlock/world.rs"]
mod world;
