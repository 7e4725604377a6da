//! Judgements of what is there: what an initrd holds, what a machine needs, what differs.

pub mod compare;
pub mod inspect;
pub mod machine;
pub mod needs;
