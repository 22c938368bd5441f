//! The one place that names atomics, fences and cells: std's, or loom's under `--cfg perfring_loom`.
//!
//! Every memory order that the crate uses is a *site* of an order table ([`order_table!`]). In a normal build a site is a
//! constant. Under loom the environment variable `PERFRING_MUTANT=SITE:ORDER` weakens exactly that site, so that one build
//! of the models can be run against every mutant.

pub(crate) use imp::*;

#[cfg(not(perfring_loom))]
mod imp {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

    /// A value of `word` to start a compare-exchange loop with.
    #[inline(always)]
    pub(crate) fn peek(word: &AtomicU64, order: Ordering) -> u64 {
        word.load(order)
    }

    /// A fence whose order is that of `site`.
    macro_rules! fence_at {
        ($site:expr) => {
            std::sync::atomic::fence($site.order())
        };
    }
    pub(crate) use fence_at;

    #[cfg(feature = "bpf")]
    pub(crate) use bpf::*;

    #[cfg(feature = "bpf")]
    mod bpf {
        use std::sync::PoisonError;
        use std::sync::TryLockError;
        pub(crate) use std::sync::atomic::AtomicPtr;
        use std::sync::atomic::compiler_fence;
        pub(crate) use std::sync::{Mutex, MutexGuard};
        pub(crate) use std::thread::yield_now;
        use zerocopy::FromZeros;

        /// What is shared by a protocol of its own; loom's sees to it that nobody else has it meanwhile.
        pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

        /// Where it is, for who has it alone.
        pub(crate) struct MutPtr<T>(*mut T);

        impl<T> UnsafeCell<T> {
            pub(crate) fn new(content: T) -> Self {
                Self(std::cell::UnsafeCell::new(content))
            }

            #[inline(always)]
            pub(crate) fn get_mut(&self) -> MutPtr<T> {
                MutPtr(self.0.get())
            }
        }

        impl<T> MutPtr<T> {
            #[inline(always)]
            pub(crate) fn with<R>(&self, action: impl FnOnce(*mut T) -> R) -> R {
                action(self.0)
            }
        }

        /// Lets others do something, the longer the more often this was done.
        pub(crate) fn wait_for_others(rounds: u32) {
            match rounds {
                ..200 => std::hint::spin_loop(),
                200..220 => yield_now(),
                _ => std::thread::sleep(std::time::Duration::from_micros(50)),
            }
        }

        /// Locks what nothing breaks when whoever held it panics.
        pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
            mutex.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// The same without waiting.
        #[cfg_attr(not(feature = "dtrace"), allow(dead_code))]
        pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
            match mutex.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }

        /// Keeps what is before it and what is behind it apart, in the eyes of signal handlers on this thread.
        #[inline(always)]
        pub(crate) fn signal_fence() {
            compiler_fence(super::Ordering::SeqCst);
        }

        /// As many zeros, whose memory is taken when they are touched; none where there is not enough.
        pub(crate) fn zeroed_u32(len: usize) -> Option<Box<[super::AtomicU32]>> {
            <[super::AtomicU32]>::new_box_zeroed_with_elems(len).ok()
        }

        /// The same.
        pub(crate) fn zeroed_u64(len: usize) -> Option<Box<[super::AtomicU64]>> {
            <[super::AtomicU64]>::new_box_zeroed_with_elems(len).ok()
        }

        /// Waiting until nobody can look any more at what was taken away: a collector of this crate's own, as crossbeam's
        /// common one may be in use on a thread when a signal interrupts it.
        pub(crate) mod epoch {
            pub(crate) use crossbeam_epoch::Guard;
            use crossbeam_epoch::{Collector, LocalHandle};
            use std::sync::LazyLock;

            static COLLECTOR: LazyLock<Collector> = LazyLock::new(Collector::new);

            thread_local! {
                static LOCAL: LocalHandle = COLLECTOR.register();
            }

            /// From now on until the guard is dropped nothing is given back that can be looked at now.
            ///
            /// This, and dropping the guard, must not be interrupted by a signal handler that does it, too. It may allocate,
            /// and it may run what others deferred.
            pub(crate) fn pin() -> Guard {
                // On a thread that is ending: as a thread of its own.
                LOCAL.try_with(LocalHandle::pin).unwrap_or_else(|_| COLLECTOR.register().pin())
            }
        }
    }
}

#[cfg(perfring_loom)]
mod imp {
    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

    /// A value of `word` to start a compare-exchange loop with. Not by a load: loom prunes the racing executions of a load
    /// that is followed by a compare-exchange of the same word. This one changes nothing even where it succeeds.
    pub(crate) fn peek(word: &AtomicU64, order: Ordering) -> u64 {
        word.compare_exchange(1, 1, order, order).unwrap_or_else(|current| current)
    }

    /// A fence whose order is that of `site`; a fence weakened to `Relaxed` is no fence.
    macro_rules! fence_at {
        ($site:expr) => {
            match $site.order() {
                $crate::sync::Ordering::Relaxed => {}
                order => loom::sync::atomic::fence(order),
            }
        };
    }
    pub(crate) use fence_at;
}

#[cfg(all(perfring_loom, feature = "bpf"))]
mod model {
    pub(crate) use loom::cell::MutPtr;
    pub(crate) use loom::sync::atomic::AtomicPtr;
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::yield_now;

    /// Lets others do something.
    pub(crate) fn wait_for_others(_rounds: u32) {
        yield_now();
    }

    /// The contract of an epoch, and no more: what was deferred runs after all guards are gone that were there before, and behind
    /// what was done under them; a guard that comes later is behind what was done before it was deferred.
    pub(crate) mod epoch {
        use loom::sync::atomic::AtomicU64;
        use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
        use std::sync::Mutex;

        /// The most guards of an execution of a model.
        const GUARDS: usize = 16;

        #[derive(Default)]
        struct Books {
            guards: usize,
            pinned: u64,
            deferred: Vec<Deferred>,
        }

        struct Deferred {
            /// The guards that there had been when it was deferred, and those that it still waits for.
            before: u64,
            guards: u64,
            run: Box<dyn FnOnce() + Send>,
        }

        /// The books are kept where loom does not see them, each time right behind a read-modify-write that it does see: it
        /// does not switch threads between the two. So nothing is ordered by the books that the contract does not order.
        struct Model {
            /// A bit for each guard that there is.
            guards: AtomicU64,
            /// Orders what is deferred before the guards that come later.
            later: AtomicU64,
            /// The word that each guard touches when it goes: orders what was done under it before what waited for it.
            ends: [AtomicU64; GUARDS],
            books: Mutex<Books>,
        }

        impl Model {
            fn books<R>(&self, with: impl FnOnce(&mut Books) -> R) -> R {
                with(&mut self.books.lock().expect("nobody panics with the books open"))
            }
        }

        loom::lazy_static! {
            static ref MODEL: Model = Model {
                guards: AtomicU64::new(0),
                later: AtomicU64::new(0),
                ends: std::array::from_fn(|_| AtomicU64::new(0)),
                books: Mutex::default(),
            };
        }

        /// What may be looked at while it is there. The number of the guard.
        pub(crate) struct Guard(usize);

        pub(crate) fn pin() -> Guard {
            let number = MODEL.books(|books| {
                books.guards += 1;
                books.guards - 1
            });
            assert!(number < GUARDS, "a model has few guards");
            MODEL.guards.fetch_or(1 << number, Relaxed);
            MODEL.books(|books| books.pinned |= 1 << number);
            MODEL.later.fetch_or(0, Acquire);
            Guard(number)
        }

        impl Guard {
            pub(crate) fn defer<R>(&self, run: impl FnOnce() -> R + Send + 'static) {
                MODEL.later.fetch_or(0, Release);
                let guards = MODEL.guards.fetch_or(0, Relaxed);
                let run = Box::new(move || {
                    run();
                });
                MODEL.books(|books| books.deferred.push(Deferred { before: books.pinned, guards, run }));
            }

            pub(crate) fn flush(&self) {}
        }

        impl Drop for Guard {
            fn drop(&mut self) {
                let others = !(1 << self.0);
                MODEL.ends[self.0].fetch_or(1, Release);
                MODEL.guards.fetch_and(others, Relaxed);
                let due: Vec<_> = MODEL.books(|books| {
                    books.deferred.iter_mut().for_each(|deferred| deferred.guards &= others);
                    books.deferred.extract_if(.., |deferred| deferred.guards == 0).collect()
                });
                for deferred in due {
                    let ends = MODEL.ends.iter().enumerate();
                    for (_, end) in ends.filter(|(number, _)| deferred.before & 1 << number != 0) {
                        end.fetch_or(0, Acquire);
                    }
                    (deferred.run)();
                }
            }
        }
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no model panics with a lock held")
    }

    pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        mutex.try_lock().ok()
    }

    pub(crate) fn zeroed_u32(len: usize) -> Option<Box<[super::AtomicU32]>> {
        Some((0..len).map(|_| super::AtomicU32::new(0)).collect())
    }

    pub(crate) fn zeroed_u64(len: usize) -> Option<Box<[super::AtomicU64]>> {
        Some((0..len).map(|_| super::AtomicU64::new(0)).collect())
    }
}
#[cfg(all(perfring_loom, feature = "bpf"))]
pub(crate) use model::*;

/// The mutant that this run of the models was asked for, as `(site, order)`.
#[cfg(perfring_loom)]
pub(crate) fn mutant() -> Option<&'static (String, Ordering)> {
    static MUTANT: std::sync::OnceLock<Option<(String, Ordering)>> = std::sync::OnceLock::new();
    MUTANT
        .get_or_init(|| {
            let text = std::env::var("PERFRING_MUTANT").ok()?;
            let (site, order) = text.split_once(':').expect("PERFRING_MUTANT is SITE:ORDER");
            let order = match order {
                "Relaxed" => Ordering::Relaxed,
                "Acquire" => Ordering::Acquire,
                "Release" => Ordering::Release,
                "AcqRel" => Ordering::AcqRel,
                other => panic!("unknown order {other}"),
            };
            Some((site.to_owned(), order))
        })
        .as_ref()
}

/// Declares the memory orders of a layer: one row a site, with its pair and the loom models that cover it.
///
/// Makes an enum of sites whose `order()` is the order to use, and `TABLE`, the rows as data for the model runner.
macro_rules! order_table {
    ($(#[$meta:meta])* $vis:vis enum $Site:ident {
        $( $(#[doc = $doc:literal])* $name:ident = $order:ident, $op:literal, pair $pair:literal, models $models:literal; )*
    }) => {
        $(#[$meta])*
        ///
        /// | site | order | operation | pairs with | loom models |
        /// |---|---|---|---|---|
        $(#[doc = concat!("| `", stringify!($name), "` | ", stringify!($order), " | ", $op, " | ", $pair, " | ", $models, " |")])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $Site {
            $( $(#[doc = $doc])* $name, )*
        }

        impl $Site {
            /// The order that this site uses.
            #[cfg(not(perfring_loom))]
            #[inline(always)]
            pub(crate) const fn order(self) -> $crate::sync::Ordering {
                match self { $( $Site::$name => $crate::sync::Ordering::$order, )* }
            }

            /// The order that this site uses, weakened where the run asks for that mutant.
            #[cfg(perfring_loom)]
            pub(crate) fn order(self) -> $crate::sync::Ordering {
                let (name, order) = match self {
                    $( $Site::$name => (stringify!($name), $crate::sync::Ordering::$order), )*
                };
                match $crate::sync::mutant() {
                    Some((site, weaker)) if site == name => *weaker,
                    _ => order,
                }
            }

            /// The rows: site, order, operation, pair, models.
            #[cfg(perfring_loom)]
            pub(crate) const TABLE: &[[&str; 5]] = &[
                $( [stringify!($name), stringify!($order), $op, $pair, $models], )*
            ];
        }
    };
}
pub(crate) use order_table;
