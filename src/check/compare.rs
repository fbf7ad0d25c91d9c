//! How far two arrays lie apart, measured on their own scale, and how far they may.

/// The largest `|a - b| / (rms(b) + |b|)`: an absolute and a relative tolerance in one, where "absolute" means on the
/// scale of the array, so that small elements of a large array may be as wrong as the sums that they came from.
///
/// Equal arrays are at 0; a number that is not finite, on either side or on both, is infinitely wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest.
    pub error: f64,
    /// The element where it is.
    pub element: usize,
}

/// Compares `a` with the truth `b`; see [`Difference`].
pub fn difference<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> Difference {
    assert_eq!(a.len(), b.len(), "arrays of one value");
    // A number that is not finite is wrong by itself, and says nothing of the others.
    let finite: Vec<f64> = b.iter().map(|&b| b.into()).filter(|b: &f64| b.is_finite()).collect();
    let rms = norm(&finite) / (finite.len().max(1) as f64).sqrt();
    let mut worst = Difference { error: 0.0, element: 0 };
    for (element, (&a, &b)) in a.iter().zip(b).enumerate() {
        let error = apart(a.into(), b.into(), rms);
        if error > worst.error {
            worst = Difference { error, element };
        }
    }
    worst
}

/// `|a - b| / (scale + |b|)`, infinite where one of them is not finite or `scale + |b|` is 0.
pub fn apart(a: f64, b: f64, scale: f64) -> f64 {
    if !(a.is_finite() && b.is_finite()) {
        return f64::INFINITY;
    }
    if a == b {
        return 0.0;
    }
    let error = (a - b).abs() / (scale + b.abs());
    if error.is_finite() { error } else { f64::INFINITY }
}

/// `|a - b| / |b|` of whole arrays: where one element may jump (a pooling window whose winner was a near tie), and the
/// array must still be right.
pub fn distance<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    assert_eq!(a.len(), b.len(), "arrays of one value");
    let difference: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| a.into() - b.into()).collect();
    apart(norm(&difference), 0.0, norm(b))
}

fn norm<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    values.iter().map(|&x| x.into()).map(|x: f64| x * x).sum::<f64>().sqrt()
}

/// Largest error of a gradient against central differences, single operations. Measured: 4.1e-7.
pub const GRADIENT_OF_OP: f64 = 4e-6;

/// Largest error of a gradient against central differences, whole nets. Measured: 1.4e-6.
pub const GRADIENT_OF_NET: f64 = 1e-5;

/// Largest relative difference of the loss of each of ten steps, GPU against CPU. Measured: 4.6e-7; 2.4e-5 from weights
/// under which a pooling window is so near a tie that the devices choose different winners.
pub const LOSS_OF_STEPS: f64 = 1e-4;

/// Largest [`distance`] between the ways that the weights went in ten steps, GPU against CPU. Measured: 1.4e-4; 2.7e-2
/// with such a near tie.
pub const WAY_OF_STEPS: f64 = 5e-2;

/// If ten steps end apart, the first value whose [`distance`] is larger than this is named.
pub const VALUE_OF_STEPS: f64 = 1e-2;

/// How far the values that an operation's kernel computes may lie from the truth: at most ten times the largest error
/// measured, which stands beside it (CPU against f64; GPU against CPU, on Mesa's lavapipe).
pub fn tolerance(op: &str) -> f64 {
    match op {
        "conv2d" => 2e-5,                            // 1.8e-6; 2.4e-6
        "conv2d.grad_input" => 1e-5,                 // 6.5e-7; 1.5e-6
        "conv2d.grad_weight" => 1e-5,                // 8.3e-7; 1.4e-6
        "conv2d.grad_bias" => 4e-6,                  // 4.7e-7; 0
        "conv_block" => 2e-5,                        // 2.0e-6; 7.6e-7
        "conv_block.grad" => 1e-5,                   // 1.5e-6; 3.1e-6
        "dense" => 2e-5,                             // 7.0e-7; 2.8e-6
        "dense.blocked" => 2e-5,                     // as dense.penalised
        "dense.penalised" => 2e-5,                   // 3.0e-7; 2.5e-6
        "dense.update" => 2e-5,                      // 7.6e-7; 4.5e-6
        "dense.grad_input" => 7e-6,                  // 7.3e-7; 5.2e-7
        "dense.grad_weight" => 7e-6,                 // 3.4e-7; 7.5e-7
        "dense.grad_bias" => 8e-7,                   // 8.6e-8; 0
        "softmax_cross_entropy" => 1e-6,             // 6.6e-8; 1.4e-7
        "softmax_cross_entropy.grad_logits" => 8e-7, // 5.4e-8; 8.3e-8
        "tanh" => 1.5e-6,                            // 6.8e-8; 1.8e-7
        "tanh.grad_input" => 5e-7,                   // 5.5e-8; 0
        "l1_penalty" => 2e-6,                        // 1.5e-7; 2.2e-7
        "adam" | "adam.vector" => 1e-5,              // 1.6e-6; 8.0e-8
        "adam.penalised" => 2e-6,                    // 2.1e-7; 1.2e-7
        "dropout" | "dropout.vector" => 5e-7,        // 7.3e-8; 0
        // These only move numbers.
        "concat" | "concat.grad_input" | "fill" | "max_pool2d" | "max_pool2d.grad_input" | "reshape" => 0.0,
        // One or two roundings: accumulate, add, leaky_relu, the L1 penalty's gradient. 4.9e-8; 0
        _ => 3e-7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_on_the_arrays_own_scale() {
        assert_eq!(difference(&[1.0f32, 2.0], &[1.0f32, 2.0]), Difference { error: 0.0, element: 0 });
        // rms of (3, 4, 0, 0) is 2.5: an error of 0.25 at 0 is a tenth, at 4 it is 0.25 / 6.5.
        let truth = [3.0, 4.0, 0.0, 0.0];
        assert_eq!(difference(&[3.0, 4.0, 0.0, 0.25], &truth), Difference { error: 0.1, element: 3 });
        assert_eq!(difference(&[3.0, 4.25, 0.0, 0.0], &truth), Difference { error: 0.25 / 6.5, element: 1 });
        let scaled = truth.map(|x| x * 1e-9);
        assert!((difference(&[3e-9, 4e-9, 0.0, 0.25e-9], &scaled).error - 0.1).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_a_number_never_passes() {
        for wrong in [f32::NAN, f32::INFINITY] {
            assert_eq!(difference(&[1.0, wrong], &[1.0f32, 1.0]), Difference { error: f64::INFINITY, element: 1 });
            assert_eq!(distance(&[1.0, wrong], &[1.0f32, 1.0]), f64::INFINITY);
        }
        assert_eq!(difference(&[1.0f32], &[f32::NAN]).error, f64::INFINITY);
        for both in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(difference(&[both], &[both]).error, f64::INFINITY);
            assert_eq!(distance(&[both], &[both]), f64::INFINITY);
        }
        assert_eq!(difference(&[1e-30f32], &[0.0f32]).error, f64::INFINITY);
    }

    #[test]
    fn one_wrong_element_of_many_hardly_moves_the_distance() {
        let truth = vec![1.0f64; 10_000];
        let mut wrong = truth.clone();
        wrong[5] = 1.01;
        assert!((distance(&wrong, &truth) - 1e-4).abs() < 1e-12);
        assert_eq!(difference(&wrong, &truth).element, 5);
    }
}
