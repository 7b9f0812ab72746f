//! Tests of the whole way from sources to a file.
