//! Property tests of the pure core: random inputs, a crash at any point, and every promise checked after each step.

#[cfg(test)]
mod session;
