//! Every operation of `pqc-iiot bench` under Criterion: one program, because linking costs more than measuring.

use criterion::{Criterion, criterion_main};

fn operations() {
    let mut criterion = Criterion::default().configure_from_args();
    pqc_iiot_benches::measure(&mut criterion);
    criterion.final_summary();
}

criterion_main!(operations);
