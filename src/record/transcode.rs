//! Resolution where there is no generated type: the writer's bytes become the reader's.

use gretchen_schema::{Definition, Schemas, Type};

use super::codec::{write_bytes, write_long};
use super::plan::{Kind, Plan, RecordPlan, SKIPPED, Step, no_plan};
use super::to_json::{MAX_LEVELS, check, nested, skip, skip_items};
use super::{DecodeError, Input};

impl Plan {
    /// Appends the reader's datum for the writer's datum that is next. With `meanings` also what is no value of its
    /// logical type is an error: the generated types would refuse it.
    pub(crate) fn run_prefix<'a>(
        &'a self,
        input: &mut Input<'a>,
        out: &mut Vec<u8>,
        meanings: bool,
    ) -> Result<(), DecodeError> {
        input.follow(self);
        Transcoder { reader: self.reader.schemas(), meanings }.step(
            &self.root,
            self.reader.root(),
            input,
            out,
            MAX_LEVELS,
        )
    }
}

struct Transcoder<'a> {
    reader: &'a Schemas,
    meanings: bool,
}

impl Transcoder<'_> {
    fn step(
        &self,
        step: &Step,
        reader: &Type,
        input: &mut Input<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let depth =
            depth.checked_sub(1).ok_or_else(|| input.error(format!("nested deeper than {MAX_LEVELS} levels")))?;
        match (&step.0, reader) {
            (Kind::Exact, _) => {
                let before = input.rest();
                // The type that is checked is the reader's: bytes need not be UTF-8.
                let over = if self.meanings { check } else { skip };
                over(self.reader, reader, input, depth)?;
                out.extend_from_slice(&before[..before.len() - input.rest().len()]);
            }
            (Kind::IntToLong, _) => {
                let (before, start) = (input.position(), out.len());
                write_long(input.read_int()?.into(), out);
                // No other promotion leads to a logical type that does not hold every value.
                if self.meanings {
                    check(self.reader, reader, &mut Input::new(&out[start..]), depth)
                        .map_err(|error| DecodeError::new(before, error.reason.clone()))?;
                }
            }
            (Kind::IntegerToFloat, _) => out.extend_from_slice(&(input.read_long()? as f32).to_le_bytes()),
            (Kind::IntegerToDouble, _) => out.extend_from_slice(&(input.read_long()? as f64).to_le_bytes()),
            (Kind::FloatToDouble, _) => out.extend_from_slice(&f64::from(input.read_float()?).to_le_bytes()),
            (Kind::Enum(numbers), _) => write_long(input.read_symbol(numbers)? as i64, out),
            (Kind::Array(step, min_len), Type::Array(items)) => {
                self.items(*min_len, input, out, |input, out| self.step(step, items, input, out, depth))?
            }
            (Kind::Map(step, min_len), Type::Map(values)) => self.items(*min_len, input, out, |input, out| {
                write_bytes(input.read_str()?.as_bytes(), out);
                self.step(step, values, input, out, depth)
            })?,
            (Kind::FromUnion(branches), _) => {
                let step = input.read_branch(branches)?;
                self.step(step, reader, input, out, depth)?;
            }
            (Kind::IntoUnion(index, step), Type::Union(branches)) => {
                let branch = branches.get(*index).ok_or_else(|| no_plan(input))?;
                write_long(*index as i64, out);
                self.step(step, branch, input, out, depth)?;
            }
            (Kind::Record(_), Type::Named(id)) => {
                let plan = input.record_plan(step)?;
                let Definition::Record(fields) = &self.reader.get(*id).definition else { return Err(no_plan(input)) };
                let types = fields.iter().map(|field| (field.name.as_str(), &field.ty)).collect::<Vec<_>>();
                nested(self.reader, *id, depth, input, |input| self.record(plan, &types, input, out, depth))?;
            }
            _ => return Err(no_plan(input)),
        }
        Ok(())
    }

    /// Each item in a block of its own: how many there will be is known only at the end.
    fn items<'a>(
        &self,
        min_len: usize,
        input: &mut Input<'a>,
        out: &mut Vec<u8>,
        mut item: impl FnMut(&mut Input<'a>, &mut Vec<u8>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        skip_items(min_len, input, |input| {
            write_long(1, out);
            item(input, out)
        })?;
        out.push(0);
        Ok(())
    }

    /// In the writer's order first, and then put into the reader's.
    fn record(
        &self,
        plan: &RecordPlan,
        fields: &[(&str, &Type)],
        input: &mut Input<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let mut written = Vec::new();
        let mut ranges = vec![None; fields.len()];
        for field in plan.fields() {
            match fields.get(field.number) {
                Some((name, ty)) => {
                    let start = written.len();
                    self.step(&field.step, ty, input, &mut written, depth).map_err(|error| error.within(name))?;
                    ranges[field.number] = Some(start..written.len());
                }
                None => {
                    debug_assert_eq!(field.number, SKIPPED);
                    field.skip(input)?;
                }
            }
        }
        for (range, default) in ranges.into_iter().zip(&plan.defaults) {
            match (range, default) {
                (Some(range), _) => out.extend_from_slice(&written[range]),
                (None, Some(bytes)) => out.extend_from_slice(bytes),
                (None, None) => return Err(no_plan(input)),
            }
        }
        Ok(())
    }
}
