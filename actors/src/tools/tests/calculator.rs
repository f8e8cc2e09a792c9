//! `calculate` and `current_time`.

use super::*;

#[test]
fn arithmetic_is_as_people_write_it() {
    for (expression, result) in [
        ("0.1+0.2", 0.3),
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("8/2/2", 2.0),
        ("2*6/3*2", 8.0),
        ("10 - 3 - 2", 5.0),
        ("-2^2", -4.0),
        ("(-2)^2", 4.0),
        ("2^3^2", 512.0),
        ("(2^3)^2", 64.0),
        ("2**10", 1024.0),
        ("2^-1", 0.5),
        ("2^-3^2", 2.0_f64.powi(-9)),
        ("2 * -3^2", -18.0),
        ("2 - -3", 5.0),
        ("--3", 3.0),
        ("-sqrt(4)^2", -4.0),
        ("-(1+1)^2", -4.0),
        ("1e3 + 1.5e-3", 1000.0015),
        (".5 + 1.", 1.5),
        ("1E2-1e+1+1e-1", 90.1),
        ("2 * e", 2.0 * std::f64::consts::E),
        ("sqrt (16)", 4.0),
        ("2^(1+1)^2", 16.0),
        ("10 % 3", 1.0),
        ("-7 % 3", 2.0),
        ("7.5 % 2", 1.5),
        ("sqrt(2)", std::f64::consts::SQRT_2),
        ("max(1, 2) + min(3, 4)", 5.0),
        ("max(-2, 1)^2", 1.0),
        ("factorial(5)", 120.0),
        ("round(2.567 * 100) / 100", 2.57),
        ("sin(pi / 2) + cos(0)", 2.0),
        ("ln(e)", 1.0),
        ("log10(1000)", 3.0),
        ("3 × 4 ÷ 2 − 1", 5.0),
        ("π - pi", 0.0),
        ("0 * -1", 0.0),
        ("100 * 1.19", 119.0),
        ("  7  ", 7.0),
        ("0^0", 1.0),
    ] {
        let got = calculate(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!((got - result).abs() <= result.abs() * 1e-12, "{expression} is {got}");
        assert!(got.to_bits() != (-0.0_f64).to_bits(), "{expression}");
    }
    assert_eq!(calculate("0.1+0.2").unwrap().to_string(), "0.3");
    assert_eq!(calculate("1.1*1.1").unwrap().to_string(), "1.21");
    assert_eq!(calculate("1/3").unwrap().to_string(), "0.333333333333333");
}

#[test]
fn what_has_no_result_is_told_why() {
    for (expression, why) in [
        ("1/0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0/0", "division by zero"),
        ("0^-1", "division by zero"),
        ("1/(2-2)", "division by zero"),
        ("10^400", "too large"),
        ("1e400", "too large"),
        ("exp(1000)", "too large"),
        ("9^9^9^9", "too large"),
        ("factorial(171)", "too large"),
        ("factorial(1e300)", "too large"),
        ("factorial(2.5)", "whole number"),
        ("sqrt(-1)", "not a real number"),
        ("ln(0)", "not a real number"),
        ("log10(-1)", "not a real number"),
        ("x + 1", "there is no \"x\" here"),
        ("log(100)", "there is no \"log\" here"),
        ("2x", "there is no \"x\" here"),
        ("system(1)", "there is no \"system\" here"),
        ("2pi", "cannot be read"),
        ("1.2.3", "cannot be read"),
        ("1e", "cannot be read"),
        ("1e+", "cannot be read"),
        ("sin2(1)", "there is no \"sin2\" here"),
        ("", "cannot be read"),
        ("   ", "cannot be read"),
        ("(((", "cannot be read"),
        ("())", "cannot be read"),
        ("1 +", "cannot be read"),
        ("1 2", "cannot be read"),
        ("2(3)", "cannot be read"),
        ("1,000 + 1", "cannot be read"),
        ("max(1, 2, 3)", "cannot be read"),
        ("5!", "'!' means nothing"),
        ("1; 2", "';' means nothing"),
        ("{x}", "'{' means nothing"),
        ("$5", "'$' means nothing"),
        ("1 < 2", "'<' means nothing"),
    ] {
        let error = calculate(expression).expect_err(expression);
        assert!(error.contains(why), "{expression}: {error}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn expressions_are_bounded_in_length_and_depth() {
    let ones = |bytes: usize| "1".repeat(bytes);
    for (bytes, fits) in [(499, true), (500, true), (501, false)] {
        // Few digits: a number of 500 is too large.
        let expression = format!("{}1", " ".repeat(bytes - 1));
        assert_eq!(calculate(&expression).is_ok(), fits, "{bytes}");
    }
    assert!(calculate(&ones(400)).unwrap_err().contains("too large"));
    for (depth, fits) in [(31, true), (32, true), (33, false)] {
        let expression = format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(calculate(&expression).is_ok(), fits, "{depth}");
    }
    for longest in [
        "1^".repeat(249) + "1",
        "-".repeat(499) + "1",
        "1+".repeat(249) + "1",
        "1-".repeat(249) + "1",
    ] {
        assert!(calculate(&longest).is_ok(), "{longest}");
    }
}

/// What an expression is made of, and what it is not.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "1", "2.5", "1e9", "0", ".", "+", "-", "*", "/", "%", "^", "**", "(", ")", ",", " ", "e", "pi", "sin", "sqrt(", "max(",
            "min", "factorial(", "round", "ln(", "x", "{x}", "é", "π", "√", "\0", "\u{200b}", "1e999", "..", "9999999999999999999",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_expression_panics_or_makes_what_is_no_number(expression in pieces()) {
        if let Ok(result) = calculate(&expression) {
            prop_assert!(result.is_finite());
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        drop(calculate(&text));
    }

    /// What is written with whole numbers and one kind of operator is what the machine makes of it.
    #[test]
    fn sums_and_differences_are_exact(numbers in prop::collection::vec(-1_000_000_i64..1_000_000, 1..20)) {
        let expression = numbers.iter().map(|number| format!("- {number}")).collect::<String>();
        let expected: i64 = numbers.iter().map(|number| -number).sum();
        prop_assert_eq!(calculate(&expression).unwrap(), expected as f64, "{}", expression);
    }
}

#[actix::test]
async fn the_time_is_told_in_the_zone_that_was_asked_for() {
    let at = |zone| now::current_time(1_767_225_600_000, zone);
    assert_eq!(
        at(None).unwrap(),
        json!({"time": "2026-01-01T00:00:00+00:00", "weekday": "Thursday", "timezone": "UTC"})
    );
    assert_eq!(
        at(Some("America/New_York")).unwrap(),
        json!({"time": "2025-12-31T19:00:00-05:00", "weekday": "Wednesday", "timezone": "America/New_York"})
    );
    assert_eq!(at(Some("Asia/Kathmandu")).unwrap()["time"], "2026-01-01T05:45:00+05:45");
    // Summer time.
    let summer = now::current_time(1_782_864_000_000, Some("Europe/Zurich")).unwrap();
    assert_eq!(summer["time"], "2026-07-01T02:00:00+02:00");
    for nowhere in ["", "Mars/Olympus", "../../etc/passwd", "\0", &"x".repeat(100_000)] {
        assert!(at(Some(nowhere)).unwrap_err().contains("time zone"), "{nowhere:.20}");
    }
    for broken in [i64::MIN, i64::MAX] {
        assert!(now::current_time(broken, None).is_err());
    }
    let mut bench = Bench::new();
    let now = bench.done("current_time", json!({})).await;
    let year: i64 = now["time"].as_str().unwrap()[..4].parse().unwrap();
    assert!(year >= 2025, "{now}");
    assert!(matches!(
        bench.run("current_time", json!({"timezone": 7})).await,
        Outcome::Failed(_)
    ));
}

#[actix::test]
async fn results_are_shown_as_people_write_them() {
    let mut bench = Bench::new();
    for (expression, shown) in [
        ("0.1+0.2", r#"{"result":0.3}"#),
        ("6*7", r#"{"result":42}"#),
        ("-(6*7)", r#"{"result":-42}"#),
        ("2^60", r#"{"result":1.15292150460685e+18}"#),
        ("1/8", r#"{"result":0.125}"#),
    ] {
        let result = bench.done("calculate", json!({ "expression": expression })).await;
        assert_eq!(result.to_string(), shown);
    }
    for arguments in [
        json!({}),
        json!({"expression": ""}),
        json!({"expression": 5}),
        json!({"expression": "1/0"}),
    ] {
        assert!(matches!(bench.run("calculate", arguments).await, Outcome::Failed(_)));
    }
}
