//! The code that the derives refuse and accept, and the messages for misuse of the verbs.
//!
//! One file in `compile-fail` shows one mistake, and its `.stderr` is text that a person will read:
//! review it as such. After a change of messages write them again by `TRYBUILD=overwrite cargo test
//! -p valkey-tests --test compile`.

#[test]
fn mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("compile-fail/*/*.rs");
    cases.pass("compile-pass/*.rs");
}
