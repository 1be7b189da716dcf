//! Records whose types contain themselves: boxes, and a bound on how deep a value may be.

use std::cell::Cell;
use std::marker::PhantomData;

use super::codec::Codec;
use super::input::MAX_VALUE_DEPTH;
use super::{DecodeError, EncodeError, Input, Record, Step};

thread_local! {
    /// Records around the one that this thread encodes. The buffer that is written to cannot carry it.
    static ENCODED_DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A level of encoding, which ends with it.
struct Level(usize);

impl Level {
    fn enter() -> Result<Self, EncodeError> {
        let outer = ENCODED_DEPTH.get();
        if outer == MAX_VALUE_DEPTH {
            return Err(EncodeError::new(format!("records nested more than {MAX_VALUE_DEPTH} deep; flatten them")));
        }
        ENCODED_DEPTH.set(outer + 1);
        Ok(Self(outer))
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        ENCODED_DEPTH.set(self.0);
    }
}

/// A record inside of another whose type contains itself; `MIN` is what it takes at least.
#[derive(Debug)]
pub struct Recursive<R, const MIN: usize>(PhantomData<R>);

impl<R: Record, const MIN: usize> Codec for Recursive<R, MIN> {
    type Owned = R;
    type View<'a> = R::View<'a>;
    const MIN_LEN: usize = MIN;

    #[inline(never)]
    fn encode(value: &R, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let _level = Level::enter()?;
        value.encode(out)
    }

    #[inline(never)]
    fn decode(input: &mut Input<'_>) -> Result<R, DecodeError> {
        input.nested(R::decode)
    }

    #[inline(never)]
    fn view<'a>(input: &mut Input<'a>) -> Result<R::View<'a>, DecodeError> {
        input.nested(R::view)
    }

    fn own(view: &R::View<'_>) -> R {
        R::from_view(view)
    }

    #[inline(never)]
    fn convert(input: &mut Input<'_>, step: &Step) -> Result<R, DecodeError> {
        input.nested(|input| R::resolve(input, step))
    }

    #[inline(never)]
    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<R::View<'a>, DecodeError> {
        input.nested(|input| R::resolve_view(input, step))
    }
}

/// A value in a box: without it a record would hold itself.
#[derive(Debug)]
pub struct Boxed<C>(PhantomData<C>);

impl<C: Codec> Codec for Boxed<C> {
    type Owned = Box<C::Owned>;
    type View<'a> = Box<C::View<'a>>;
    const MIN_LEN: usize = C::MIN_LEN;

    fn encode(value: &Box<C::Owned>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        C::encode(value, out)
    }

    fn decode(input: &mut Input<'_>) -> Result<Box<C::Owned>, DecodeError> {
        C::decode(input).map(Box::new)
    }

    fn view<'a>(input: &mut Input<'a>) -> Result<Box<C::View<'a>>, DecodeError> {
        C::view(input).map(Box::new)
    }

    fn own(view: &Box<C::View<'_>>) -> Box<C::Owned> {
        Box::new(C::own(view))
    }

    fn convert(input: &mut Input<'_>, step: &Step) -> Result<Box<C::Owned>, DecodeError> {
        C::convert(input, step).map(Box::new)
    }

    fn convert_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Box<C::View<'a>>, DecodeError> {
        C::convert_view(input, step).map(Box::new)
    }
}
