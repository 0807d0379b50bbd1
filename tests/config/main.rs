//! Configurations as an operator writes them: what he is told of each mistake, and that what the
//! project ships is right.

mod hostile;
mod import;
mod main_cf;
mod malformed;
mod parity;
mod promises;
mod room;
mod shipped;
