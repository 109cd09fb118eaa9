//! The promises of `runtime::contract`, kept on the real kernel.

use runtime::contract;

use crate::{TestDirectory, on_executor};

#[test]
fn every_promise_holds() {
    let directory = TestDirectory::new("contract");
    let root = directory.path();
    on_executor(|io| async move {
        for case in contract::cases() {
            eprintln!("{}", case.name);
            case.check(&io, &root).await;
        }
    });
}
