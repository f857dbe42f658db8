//! A program without std that links the core and uses it, as firmware would.
//!
//! Exit status 0 means that every check held; otherwise it is the number of the first that failed. Only the C runtime's
//! start-up code and libc's `memcpy` family come from outside: there is no std to unwind, to allocate or to print.
#![no_std]
#![no_main]

extern crate alloc;

mod checks;
mod heap;

use core::ffi::c_int;
use core::panic::PanicInfo;

// The compiler emits calls to `memcpy` and its family; on a host, libc has them.
#[link(name = "c")]
unsafe extern "C" {
    fn _exit(status: c_int) -> !;
}

/// The status of a panic; no check has this number.
const PANICKED: c_int = 101;

#[global_allocator]
static HEAP: heap::Bump = heap::Bump::new();

// SAFETY: `main` is what the C runtime calls, and nothing else here has that name.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const u8) -> c_int {
    match checks::run() {
        Ok(()) => 0,
        Err(check) => check.get().into(),
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `_exit` takes any status and never returns.
    unsafe { _exit(PANICKED) }
}

/// Named by the unwind tables in the toolchain's own `alloc`; nothing here unwinds, so nothing calls it.
// SAFETY: std would define this name too, and is not linked: the linker would refuse both.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    // SAFETY: `_exit` takes any status and never returns.
    unsafe { _exit(PANICKED) }
}
