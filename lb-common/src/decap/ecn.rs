//! Explicit Congestion Notification where a tunnel ends (RFC 6040 §4.2, figure 4).

/// The bits of a type of service or traffic class that it uses (RFC 3168 §5).
pub(super) const MASK: u8 = 3;

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// What the inner header is to say; `None` if the packet must be dropped.
#[inline(always)]
pub(super) const fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_figure_4() {
        // Rows: inner; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        let figure = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in figure {
            let outer = [NOT_ECT, ECT_0, ECT_1, CE];
            assert_eq!(
                outer.map(|outer| decapsulated(inner, outer)),
                row,
                "inner {inner}"
            );
        }
    }
}
