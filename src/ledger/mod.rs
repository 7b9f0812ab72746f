//! The ledger: hash-chained, durable before anything is carried.
