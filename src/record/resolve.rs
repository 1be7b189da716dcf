//! Schema resolution by the rules of the Avro specification, compiled once for a writer's and a reader's schema.

use std::collections::HashMap;

use gretchen_schema::{Definition, Field, Logical, Named, Schemas, Type, TypeId};

use super::codec::write_long;
use super::to_json::{check_end, skip, skip_items};
use super::{DecodeError, DynamicSchema, Input, to_json};

/// Levels that compiling may go down: two schemas that contain themselves can be paired in many ways.
const MAX_LEVELS: usize = 128;

/// How datums of one schema become datums of another.
#[derive(Debug)]
pub(crate) struct Plan {
    writer: DynamicSchema,
    root: Step,
    /// `None` where two records do not fit; only branches that are not taken lead there.
    records: Vec<Option<RecordPlan>>,
}

/// What to do with one value of the writer.
#[derive(Clone, Debug)]
enum Step {
    /// Checked and copied: both write the same bytes.
    Copy(Type),
    FloatOfInteger,
    DoubleOfInteger,
    DoubleOfFloat,
    /// The reader's number of each of the writer's symbols, if it knows it.
    Enum(Vec<Option<usize>>),
    /// The items, and what one takes at least.
    Array(Box<Step>, usize),
    Map(Box<Step>, usize),
    /// One for each branch of the writer.
    FromUnion(Vec<Result<Step, String>>),
    /// The reader's branch.
    IntoUnion(usize, Box<Step>),
    Record(usize),
}

#[derive(Debug)]
struct RecordPlan {
    /// Name and type of every field of the writer.
    written: Vec<(String, Type)>,
    /// For every field of the reader where it comes from.
    read: Vec<Source>,
}

#[derive(Debug)]
enum Source {
    Written(usize, Step),
    Default(Vec<u8>),
}

impl Plan {
    /// Compiles the plan, or says why the schemas do not fit.
    pub(crate) fn compile(writer: &DynamicSchema, reader: &DynamicSchema) -> Result<Self, String> {
        let mut compiler =
            Compiler { writer: writer.schemas(), reader: reader.schemas(), records: Vec::new(), known: HashMap::new() };
        let root = compiler.step(writer.root(), reader.root(), MAX_LEVELS)?;
        Ok(Self { records: compiler.records, writer: writer.clone(), root })
    }

    /// Appends the reader's datum for a datum of the writer, all of which must be consumed.
    pub(crate) fn run(&self, input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        self.run_prefix(input, out)?;
        check_end(input)
    }

    /// The same for the first datum of many.
    pub(crate) fn run_prefix(&self, input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        self.step(&self.root, input, out, to_json::MAX_LEVELS)
    }

    fn step(&self, step: &Step, input: &mut Input<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), DecodeError> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| input.error(format!("nested deeper than {} levels", to_json::MAX_LEVELS)))?;
        match step {
            Step::Copy(ty) => {
                let before = input.rest();
                skip(self.writer.schemas(), ty, input, depth)?;
                out.extend_from_slice(&before[..before.len() - input.rest().len()]);
            }
            Step::FloatOfInteger => out.extend_from_slice(&(input.read_long()? as f32).to_le_bytes()),
            Step::DoubleOfInteger => out.extend_from_slice(&(input.read_long()? as f64).to_le_bytes()),
            Step::DoubleOfFloat => out.extend_from_slice(&f64::from(input.read_float()?).to_le_bytes()),
            Step::Enum(numbers) => match numbers[input.read_index(numbers.len())?] {
                Some(number) => write_long(number as i64, out),
                None => return Err(input.error("a symbol that the reader's enum does not have, nor a default")),
            },
            Step::Array(item, min_len) => {
                self.items(*min_len, input, out, |input, out| self.step(item, input, out, depth))?
            }
            Step::Map(value, min_len) => self.items(1 + min_len, input, out, |input, out| {
                super::codec::write_bytes(input.read_str()?.as_bytes(), out);
                self.step(value, input, out, depth)
            })?,
            Step::FromUnion(branches) => match &branches[input.read_index(branches.len())?] {
                Ok(step) => self.step(step, input, out, depth)?,
                Err(why) => return Err(input.error(why.clone())),
            },
            Step::IntoUnion(index, step) => {
                write_long(*index as i64, out);
                self.step(step, input, out, depth)?;
            }
            Step::Record(index) => self.record(*index, input, out, depth)?,
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

    fn record(&self, index: usize, input: &mut Input<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), DecodeError> {
        let Some(Some(plan)) = self.records.get(index) else { return Err(input.error("the schemas do not fit here")) };
        // Where each of the writer's fields begins: the reader's order may be another.
        let mut starts = Vec::with_capacity(plan.written.len());
        for (name, ty) in &plan.written {
            starts.push(input.clone());
            skip(self.writer.schemas(), ty, input, depth).map_err(|error| error.within(name))?;
        }
        for source in &plan.read {
            match source {
                Source::Written(field, step) => self
                    .step(step, &mut starts[*field].clone(), out, depth)
                    .map_err(|error| error.within(&plan.written[*field].0))?,
                Source::Default(bytes) => out.extend_from_slice(bytes),
            }
        }
        Ok(())
    }
}

struct Compiler<'a> {
    writer: &'a Schemas,
    reader: &'a Schemas,
    records: Vec<Option<RecordPlan>>,
    /// Pairs of named types that are compiled, or being compiled: a record may contain itself.
    known: HashMap<(TypeId, TypeId), Result<Step, String>>,
}

impl Compiler<'_> {
    fn step(&mut self, writer: &Type, reader: &Type, levels: usize) -> Result<Step, String> {
        let Some(levels) = levels.checked_sub(1) else { return Err("the schemas are nested too deeply".into()) };
        if let Type::Union(branches) = writer {
            let steps = branches.iter().map(|branch| self.step(branch, reader, levels)).collect::<Vec<_>>();
            return match steps.iter().find_map(|step| step.as_ref().err()) {
                Some(why) if steps.iter().all(Result::is_err) => Err(why.clone()),
                _ => Ok(Step::FromUnion(steps)),
            };
        }
        if let Type::Union(branches) = reader {
            return self.reader_union(writer, branches, levels);
        }
        if let (Some(a), Some(b)) = (logical(self.writer, writer), logical(self.reader, reader)) {
            self.check_logical(a, b, writer, reader)?;
        }
        match (writer, reader) {
            (Type::Array(a), Type::Array(b)) => {
                Ok(Step::Array(Box::new(self.step(a, b, levels)?), self.writer.min_len(a)))
            }
            (Type::Map(a), Type::Map(b)) => Ok(Step::Map(Box::new(self.step(a, b, levels)?), self.writer.min_len(a))),
            (Type::Named(a), Type::Named(b)) => self.named(*a, *b, levels),
            _ => match (writer.primitive_name(), reader.primitive_name()) {
                (a, b) if a == b && !matches!(a, "named" | "array" | "map") => Ok(Step::Copy(writer.clone())),
                ("int", "long") | ("string", "bytes") => Ok(Step::Copy(writer.clone())),
                // The type that is checked is the reader's: bytes need not be UTF-8.
                ("bytes", "string") => Ok(Step::Copy(Type::String)),
                ("int" | "long", "float") => Ok(Step::FloatOfInteger),
                ("int" | "long", "double") => Ok(Step::DoubleOfInteger),
                ("float", "double") => Ok(Step::DoubleOfFloat),
                _ => Err(self.differ(writer, reader)),
            },
        }
    }

    fn differ(&self, writer: &Type, reader: &Type) -> String {
        format!("{} was written where {} is read", self.writer.type_name(writer), self.reader.type_name(reader))
    }

    /// The same number in another unit would be read without an error and be wrong.
    fn check_logical(&self, a: Logical, b: Logical, writer: &Type, reader: &Type) -> Result<(), String> {
        let fits = match (a, b) {
            (Logical::Decimal { precision: a, scale: x }, Logical::Decimal { precision: b, scale: y }) => {
                x == y && a <= b
            }
            _ => a == b,
        };
        if fits { Ok(()) } else { Err(self.differ(writer, reader)) }
    }

    /// The first branch of the same type, or else the first that the writer's can be promoted to.
    fn reader_union(&mut self, writer: &Type, branches: &[Type], levels: usize) -> Result<Step, String> {
        let same = |branch: &Type, compiler: &Self| match (writer, branch) {
            (Type::Named(a), Type::Named(b)) => compiler.writer.get(*a).name == compiler.reader.get(*b).name,
            _ => writer.primitive_name() == branch.primitive_name(),
        };
        let (first, then): (Vec<_>, Vec<_>) = branches.iter().enumerate().partition(|(_, branch)| same(branch, self));
        for (index, branch) in first.into_iter().chain(then) {
            if let Ok(step) = self.step(writer, branch, levels) {
                return Ok(Step::IntoUnion(index, Box::new(step)));
            }
        }
        Err(self.differ(writer, &Type::Union(branches.to_vec())))
    }

    fn named(&mut self, a: TypeId, b: TypeId, levels: usize) -> Result<Step, String> {
        if let Some(known) = self.known.get(&(a, b)) {
            return known.clone();
        }
        let (writer, reader) = (self.writer.get(a), self.reader.get(b));
        if !same_name(writer, reader) {
            return Err(format!("{} was written where {} is read", writer.name, reader.name));
        }
        let step = match (&writer.definition, &reader.definition) {
            (Definition::Fixed { size: written, .. }, Definition::Fixed { size: read, .. }) if written == read => {
                Ok(Step::Copy(Type::Named(a)))
            }
            (Definition::Enum { symbols: written, .. }, Definition::Enum { symbols: read, default }) => {
                let number = |symbol: &String| read.iter().position(|known| known == symbol);
                let default = default.as_ref().and_then(number);
                Ok(Step::Enum(written.iter().map(|symbol| number(symbol).or(default)).collect()))
            }
            (Definition::Record(written), Definition::Record(read)) => {
                let index = self.records.len();
                self.records.push(None);
                self.known.insert((a, b), Ok(Step::Record(index)));
                self.record(written, read, levels).map(|plan| {
                    self.records[index] = Some(plan);
                    Step::Record(index)
                })
            }
            _ => Err(format!("{} has another form in the schema that it was written with", writer.name)),
        };
        self.known.insert((a, b), step.clone());
        step
    }

    fn record(&mut self, written: &[Field], read: &[Field], levels: usize) -> Result<RecordPlan, String> {
        let mut sources = Vec::with_capacity(read.len());
        for field in read {
            let known = |other: &Field| other.name == field.name || field.aliases.contains(&other.name);
            let exact = written.iter().position(|other| other.name == field.name);
            let source = match (exact.or_else(|| written.iter().position(known)), &field.default) {
                (Some(index), _) => self
                    .step(&written[index].ty, &field.ty, levels)
                    .map(|step| Source::Written(index, step))
                    .map_err(|why| format!("field {}: {why}", field.name))?,
                (None, Some(default)) => {
                    let mut bytes = Vec::new();
                    self.reader
                        .encode_default(&field.ty, default, &mut bytes)
                        .ok_or_else(|| format!("field {}: its default does not fit", field.name))?;
                    Source::Default(bytes)
                }
                (None, None) => {
                    return Err(format!("field {} was not written and has no default; give it one", field.name));
                }
            };
            sources.push(source);
        }
        let written = written.iter().map(|field| (field.name.clone(), field.ty.clone())).collect();
        Ok(RecordPlan { written, read: sources })
    }
}

/// By the specification: the unqualified names agree, or an alias of the reader's is the writer's name.
fn same_name(writer: &Named, reader: &Named) -> bool {
    writer.simple_name() == reader.simple_name() || reader.aliases.contains(&writer.name)
}

/// What a type means, be it a primitive or a fixed.
fn logical(schemas: &Schemas, ty: &Type) -> Option<Logical> {
    match ty {
        Type::Logical(logical) => Some(*logical),
        Type::Named(id) => match &schemas.get(*id).definition {
            Definition::Fixed { logical, .. } => *logical,
            _ => None,
        },
        _ => None,
    }
}

/// Why a reader's schema does not read what a writer's wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// Path of the field, or an empty text for the schema itself.
    pub path: String,
    /// Short name of the rule that is broken.
    pub rule: &'static str,
    /// What is wrong, in whole words.
    pub message: String,
}

/// What keeps datums of `writer` from being read as `reader`; nothing where all of them can be.
pub fn incompatibilities(writer: &DynamicSchema, reader: &DynamicSchema) -> Vec<Incompatibility> {
    match Plan::compile(writer, reader) {
        Ok(_) => Vec::new(),
        Err(message) => vec![Incompatibility { path: String::new(), rule: "resolution", message }],
    }
}
