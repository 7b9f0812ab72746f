//! The process supervisor.
pub mod barrier;
pub mod child;
mod output;
mod process;
mod restart;
pub mod settings;
pub use settings::{
    COMMAND_WORDS_MAX, COUNT_MAX, OWN_VARIABLES, ROWS_MAX, Row, Settings, WORD_BYTES_MAX, WORKERS_MAX, Wanted,
};
