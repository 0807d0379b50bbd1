//! Shared types.
#![cfg_attr(not(feature = "user"), no_std)]
