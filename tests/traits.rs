//! What every public type can do beside what it is for: move to another thread, be shared between threads, be shown, survive
//! a panic. Whoever adds one adds it here.

use annulus::inspect::{Snapshot, State};
use annulus::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::error::Error;
use std::fmt::Debug;
use std::hash::Hash;
use std::iter::FusedIterator;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A handle of one who takes part, which one thread uses at a time.
fn is_side<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug>() {}

/// A handle on what is shared, or a value.
fn is_shared<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug + Clone>() {}

/// What borrows a side.
fn is_guard<T: Send + Sync + Unpin + Debug>() {}

/// What has a closure of the program's, which is asked by one thread at a time.
fn has_closure<T: Send + Unpin + Debug>() {}

fn is_choice<T: Send + Sync + Unpin + Debug + Copy + Eq + Hash>() {}

/// What threads and boxes take.
fn is_error<T: Error + Send + Sync + Unpin + 'static>() {}

#[test]
fn each_type_has_the_traits_of_its_kind() {
    is_shared::<Ring<u64>>();
    is_shared::<UntypedRing>();
    is_shared::<ByteRing>();
    is_shared::<Stream>();
    is_shared::<Latest<u64>>();
    is_shared::<UntypedLatest>();
    is_shared::<Broadcast<u64>>();
    is_shared::<ByteBroadcast>();
    is_shared::<Mailbox>();
    is_shared::<Semaphore>();
    is_shared::<Event>();
    is_shared::<Place>();
    is_shared::<Address>();
    is_shared::<Peer>();
    is_shared::<Builder<Ring<u64>>>();
    is_shared::<Attach<Ring<u64>>>();
    is_shared::<Stats>();
    is_shared::<Participant>();
    is_shared::<Snapshot>();
    is_shared::<Letter>();
    is_side::<Sender<u64>>();
    is_side::<Receiver<u64>>();
    is_side::<UntypedSender>();
    is_side::<UntypedReceiver>();
    is_side::<ByteSender>();
    is_side::<ByteReceiver>();
    is_side::<StreamReader>();
    is_side::<StreamWriter>();
    is_side::<LatestReader<u64>>();
    is_side::<LatestWriter<u64>>();
    is_side::<UntypedLatestReader>();
    is_side::<UntypedLatestWriter>();
    is_side::<BroadcastSender<u64>>();
    is_side::<BroadcastReceiver<u64>>();
    is_side::<ByteBroadcastSender>();
    is_side::<ByteBroadcastReceiver>();
    is_side::<MailSender>();
    is_side::<MailReceiver>();
    is_side::<Subscription>();
    is_side::<Holder>();
    is_side::<EventHandle>();
    is_side::<Duplex<u64>>();
    is_side::<ByteDuplex>();
    is_side::<ByteStream>();
    is_side::<ByteStreamReader>();
    is_side::<ByteStreamWriter>();
    is_side::<Split<ByteRing>>();
    is_side::<Invitation<ByteRing>>();
    is_guard::<Claimed<u64>>();
    is_guard::<Grant>();
    is_guard::<Message>();
    is_guard::<Peek>();
    is_guard::<Permit>();
    is_guard::<Drain<u64>>();
    is_guard::<Iter<u64>>();
    is_guard::<TryIter<u64>>();
    has_closure::<Listener>();
    has_closure::<ListenerOptions>();
    has_closure::<Connect>();
    has_closure::<Hub<Duplex<u64>>>();
    has_closure::<HubEvent<Duplex<u64>>>();
    has_closure::<Turn<Duplex<u64>>>();
    is_choice::<Wait>();
    is_choice::<Role>();
    is_choice::<Topology>();
    is_choice::<RingKind>();
    is_choice::<Ending>();
    is_choice::<Start>();
    is_choice::<Delivery>();
    is_choice::<Gate>();
    is_choice::<Select>();
    is_choice::<State>();
    is_choice::<ClientId>();
    is_choice::<Refusal>();
    is_error::<SetupError>();
    is_error::<ConnectError>();
    is_error::<FdsError>();
    is_error::<TrySendError<u64>>();
    is_error::<SendError<u64>>();
    is_error::<SendTimeoutError<u64>>();
    is_error::<SendAllError>();
    is_error::<ByteSendError>();
    is_error::<TryRecvError>();
    is_error::<RecvError>();
    is_error::<RecvTimeoutError>();
    is_error::<RecvIntoError>();
    is_error::<BroadcastRecvError>();
    is_error::<LatestError>();
    is_error::<MailSendError>();
    is_error::<MailRecvError>();
    is_error::<TryAcquireError>();
    is_error::<AcquireError>();
    is_error::<AcquireTimeoutError>();
    is_error::<ReleaseError>();
    is_error::<EventError>();
    is_error::<EventTimeoutError>();
}

// There is one of each.
assert_not_impl_any!(Sender<u64>: Clone);
assert_not_impl_any!(Receiver<u64>: Clone);
assert_not_impl_any!(ByteSender: Clone);
assert_not_impl_any!(ByteReceiver: Clone);
assert_not_impl_any!(LatestWriter<u64>: Clone);
assert_not_impl_any!(BroadcastSender<u64>: Clone);
assert_not_impl_any!(Holder: Clone);
assert_not_impl_any!(Permit<'static>: Clone);
assert_not_impl_any!(Claimed<'static, u64>: Clone);
assert_not_impl_any!(Grant<'static>: Clone);
assert_not_impl_any!(Message<'static>: Clone);

assert_impl_all!(Drain<'static, u64>: FusedIterator);

// What a wait ended with ends one who does not wait as well, but not the other way round: that nothing is there now is no end.
assert_impl_all!(TryRecvError: From<RecvError>);
assert_impl_all!(RecvTimeoutError: From<RecvError>);
assert_impl_all!(TrySendError<u64>: From<SendError<u64>>);
assert_impl_all!(SendTimeoutError<u64>: From<SendError<u64>>);
assert_impl_all!(TryAcquireError: From<AcquireError>);
assert_impl_all!(AcquireTimeoutError: From<AcquireError>);
assert_not_impl_any!(AcquireError: From<TryAcquireError>);
assert_not_impl_any!(RecvError: From<TryRecvError>);
assert_not_impl_any!(FdsError: From<ByteSendError>);
