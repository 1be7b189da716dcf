//! What a compiled resolution says: how values that one schema wrote become values of another.

use gretchen_schema::Type;

use super::codec::Codec;
use super::to_json::{MAX_LEVELS, skip};
use super::{DecodeError, DynamicSchema, Input};

/// How values of the writer's schema become values of the reader's: compiled once, followed for every value.
///
/// Generated types read with it directly ([`Record::resolve`](super::Record::resolve)); where there is no generated
/// type it rewrites the bytes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) writer: DynamicSchema,
    pub(super) reader: DynamicSchema,
    pub(super) root: Step,
    /// `None` where two records do not fit; only branches that are not taken lead there.
    pub(super) records: Vec<Option<RecordPlan>>,
}

impl Plan {
    /// What to do with the whole value.
    #[inline]
    pub(crate) fn root(&self) -> &Step {
        &self.root
    }
}

/// What to do with one value of the writer; a part of a compiled resolution.
#[derive(Clone, Debug)]
pub struct Step(pub(super) Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Both schemas write the same bytes.
    Exact,
    /// The same bytes again, of which an int may have fewer.
    IntToLong,
    IntegerToFloat,
    IntegerToDouble,
    FloatToDouble,
    /// The reader's number of each of the writer's symbols, or why there is none.
    Enum(Box<[Result<usize, Box<str>>]>),
    /// The items, and the bytes that one takes at least.
    Array(Box<Step>, usize),
    /// The values, and the bytes that an entry takes at least.
    Map(Box<Step>, usize),
    /// One for each branch of the writer, or why it cannot be read.
    FromUnion(Box<[Result<Step, Box<str>>]>),
    /// The reader's branch.
    IntoUnion(usize, Box<Step>),
    /// A number in [`Plan::records`].
    Record(usize),
}

/// Values for which there is nothing to do.
pub(super) static EXACT: Step = Step(Kind::Exact);

impl Step {
    /// Whether both schemas write the same bytes, so that the reader's codec reads them as its own.
    #[inline]
    pub fn is_exact(&self) -> bool {
        matches!(self.0, Kind::Exact)
    }

    /// For a codec of a union: the reader's branch, and what to do with the value in it.
    #[inline]
    pub fn branch(&self) -> Option<(usize, &Self)> {
        match &self.0 {
            Kind::IntoUnion(index, step) => Some((*index, step)),
            _ => None,
        }
    }

    /// For a codec of items: what to do with each, and the bytes that one takes at least.
    #[inline]
    pub(super) fn items(&self) -> Option<(&Self, usize)> {
        match &self.0 {
            Kind::Array(step, min_len) | Kind::Map(step, min_len) => Some((step, *min_len)),
            _ => None,
        }
    }
}

/// How a record of the writer becomes one of the reader.
#[derive(Debug)]
pub struct RecordPlan {
    /// In the writer's order.
    pub(super) fields: Box<[FieldPlan]>,
    /// For each field of the reader the bytes of its default where the writer has none.
    pub(super) defaults: Box<[Option<Box<[u8]>>]>,
}

/// What to do with a field of the writer's record.
#[derive(Debug)]
pub struct FieldPlan {
    /// The reader's field, or [`SKIPPED`].
    pub(super) number: usize,
    pub(super) step: Step,
    /// The writer's name and type.
    pub(super) name: Box<str>,
    pub(super) ty: Type,
}

/// Stands for no field of the reader.
pub(super) const SKIPPED: usize = usize::MAX;

impl RecordPlan {
    /// The fields as they were written.
    #[inline]
    pub fn fields(&self) -> &[FieldPlan] {
        &self.fields
    }
}

impl FieldPlan {
    /// The number of the reader's field, which the reader does not have if it wants none.
    #[inline]
    pub fn number(&self) -> usize {
        self.number
    }

    /// What to do with the value.
    #[inline]
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// Reads over a field that the reader does not want, checking it.
    #[inline(always)]
    pub fn skip(&self, input: &mut Input<'_>) -> Result<(), DecodeError> {
        // The most frequent ones without a call.
        let skipped = match self.ty {
            Type::Long => input.read_long().map(drop),
            Type::String => input.read_str().map(drop),
            _ => self.skip_any(input),
        };
        skipped.map_err(|error| error.within(&self.name))
    }

    #[inline(never)]
    fn skip_any(&self, input: &mut Input<'_>) -> Result<(), DecodeError> {
        match input.plan() {
            Some(plan) => skip(plan.writer.schemas(), &self.ty, input, MAX_LEVELS),
            None => Err(no_plan(input)),
        }
    }
}

/// The value of a field that the writer did not have.
#[doc(hidden)]
#[inline(never)]
pub fn resolve_default<C: Codec>(plan: &RecordPlan, number: usize, input: &Input<'_>) -> Result<C::Owned, DecodeError> {
    C::decode(&mut Input::new(default_bytes(plan, number, input)?))
}

/// The same without copying.
#[doc(hidden)]
#[inline(never)]
pub fn view_default<'a, C: Codec>(
    plan: &'a RecordPlan,
    number: usize,
    input: &Input<'_>,
) -> Result<C::View<'a>, DecodeError> {
    C::view(&mut Input::new(default_bytes(plan, number, input)?))
}

fn default_bytes<'a>(plan: &'a RecordPlan, number: usize, input: &Input<'_>) -> Result<&'a [u8], DecodeError> {
    match plan.defaults.get(number) {
        Some(Some(bytes)) => Ok(bytes),
        _ => Err(no_plan(input)),
    }
}

/// What only a plan of other schemas leads to.
#[cold]
#[inline(never)]
pub fn no_plan(input: &Input<'_>) -> DecodeError {
    input.error("the schemas do not fit here")
}

impl<'a> Input<'a> {
    /// The plan of a step for a record.
    #[inline]
    pub fn record_plan(&self, step: &Step) -> Result<&'a RecordPlan, DecodeError> {
        if let (Kind::Record(index), Some(plan)) = (&step.0, self.plan())
            && let Some(Some(record)) = plan.records.get(*index)
        {
            return Ok(record);
        }
        Err(no_plan(self))
    }

    /// The number of the writer's branch is next: what to do with the value behind it.
    #[inline]
    pub(super) fn read_branch<'s>(&mut self, branches: &'s [Result<Step, Box<str>>]) -> Result<&'s Step, DecodeError> {
        let before = self.position();
        match &branches[self.read_index(branches.len())?] {
            Ok(step) => Ok(step),
            Err(why) => Err(DecodeError::new(before, &**why)),
        }
    }

    /// The number of the writer's symbol is next: the reader's.
    #[inline]
    pub(super) fn read_symbol(&mut self, numbers: &[Result<usize, Box<str>>]) -> Result<usize, DecodeError> {
        let before = self.position();
        match &numbers[self.read_index(numbers.len())?] {
            Ok(number) => Ok(*number),
            Err(why) => Err(DecodeError::new(before, &**why)),
        }
    }
}

/// What is the same for every codec: the writer's union, and an int where a long is read.
#[inline(never)]
pub(super) fn resolve_other<C: Codec + ?Sized>(input: &mut Input<'_>, step: &Step) -> Result<C::Owned, DecodeError> {
    match &step.0 {
        Kind::FromUnion(branches) => {
            let step = input.read_branch(branches)?;
            C::resolve(input, step)
        }
        Kind::IntToLong => {
            input.clone().read_int()?;
            C::decode(input)
        }
        _ => C::convert(input, step),
    }
}

/// The same without copying.
#[inline(never)]
pub(super) fn view_other<'a, C: Codec + ?Sized>(
    input: &mut Input<'a>,
    step: &'a Step,
) -> Result<C::View<'a>, DecodeError> {
    match &step.0 {
        Kind::FromUnion(branches) => {
            let step = input.read_branch(branches)?;
            C::resolve_view(input, step)
        }
        Kind::IntToLong => {
            input.clone().read_int()?;
            C::view(input)
        }
        _ => C::convert_view(input, step),
    }
}
