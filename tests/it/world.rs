//! First run of the whole runtime on the embedded bus.
