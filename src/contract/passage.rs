//! What passes through and what does not (rulings §2).
//!
//! Owns: the rule by which a delivery becomes the message that leaves, and the names of the router's own headers.
//! Never: touches a body.
//! Holds: no inbound `x-swarmgate-*` but the signing headers, no CC, BCC, `authorization` or `user-id` leaves.
