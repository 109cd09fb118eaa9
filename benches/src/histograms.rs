//! Recording one sample: what each stage of a request pays to be measured.

use runtime::Histogram;

use crate::meter::Meter;

const OPS: u64 = 1_000_000;

/// Samples over the whole range, in an order that no branch predictor can learn from their size.
pub(crate) fn record(meter: &mut Meter) {
    let histogram = Histogram::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    meter.repeat(OPS, 0, || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        histogram.record_nanos(state >> (24 + (state & 31)));
    });
    assert!(histogram.count() > 0, "samples were counted");
}
