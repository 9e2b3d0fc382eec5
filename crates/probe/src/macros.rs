//! The three macros. Off, they leave nothing behind; on, each use is one `static` in the registry.

/// Marks a step: `probe!("crate.operation.step")` or `probe!("crate.operation.step", a, b)` with up to
/// four arguments that convert to `u64`.
///
/// In a normal build it is nothing and its arguments are not evaluated. With `--cfg outlast_probes` it is
/// one relaxed load while no hook is installed, else a call of the hook.
#[cfg(not(outlast_probes))]
#[macro_export]
macro_rules! probe {
    ($name:literal $(, $arg:expr)* $(,)?) => {};
}

/// Marks a step: `probe!("crate.operation.step")` or `probe!("crate.operation.step", a, b)` with up to
/// four arguments that convert to `u64`.
#[cfg(outlast_probes)]
#[macro_export]
macro_rules! probe {
    ($name:literal $(, $arg:expr)* $(,)?) => {{
        $crate::register_probe!($name, Point);
        if $crate::registry::armed() {
            let _ = $crate::registry::hit(&PROBE, &[$(u64::from($arg)),*]);
        }
    }};
}

/// A site at which a test may inject a failure: evaluates to `Option<i32>`, the errno to fail with.
///
/// In a normal build it is the constant `None`.
#[cfg(not(outlast_probes))]
#[macro_export]
macro_rules! fault {
    ($name:literal) => {
        ::core::option::Option::<i32>::None
    };
}

/// A site at which a test may inject a failure: evaluates to `Option<i32>`, the errno to fail with.
#[cfg(outlast_probes)]
#[macro_export]
macro_rules! fault {
    ($name:literal) => {{
        $crate::register_probe!($name, Fault);
        if $crate::registry::armed() {
            $crate::registry::hit(&PROBE, &[])
        } else {
            ::core::option::Option::<i32>::None
        }
    }};
}

/// Evaluates an expression that may block in the kernel, telling the hook before and after.
///
/// In a normal build it is the expression alone.
#[cfg(not(outlast_probes))]
#[macro_export]
macro_rules! blocking {
    ($name:literal, $body:expr) => {
        $body
    };
}

/// Evaluates an expression that may block in the kernel, telling the hook before (argument 0) and after
/// (argument 1).
#[cfg(outlast_probes)]
#[macro_export]
macro_rules! blocking {
    ($name:literal, $body:expr) => {{
        $crate::register_probe!($name, Blocking);
        if $crate::registry::armed() {
            let _ = $crate::registry::hit(&PROBE, &[0]);
        }
        let value = $body;
        if $crate::registry::armed() {
            let _ = $crate::registry::hit(&PROBE, &[1]);
        }
        value
    }};
}

/// Declares the `static` of one probe; used by the other macros.
#[cfg(outlast_probes)]
#[doc(hidden)]
#[macro_export]
macro_rules! register_probe {
    ($name:literal, $kind:ident) => {
        #[allow(unsafe_code, reason = "the linker section is how the registry collects its entries")]
        #[$crate::private::linkme::distributed_slice($crate::registry::PROBES)]
        #[linkme(crate = $crate::private::linkme)]
        static PROBE: $crate::registry::Probe =
            $crate::registry::Probe::new($name, file!(), line!(), $crate::registry::Kind::$kind);
    };
}
