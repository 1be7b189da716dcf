//! Schema resolution by the rules of the Avro specification, compiled once for a writer's and a reader's schema.

use std::collections::{HashMap, HashSet};

use gretchen_schema::{Definition, Field, Logical, Named, Schemas, Type, TypeId, did_you_mean};

use super::plan::{FieldPlan, Kind, Plan, RecordPlan, SKIPPED, Step};
use super::{DynamicSchema, Incompatibility};

/// Levels that compiling may go down: two schemas that contain themselves can be paired in many ways.
const MAX_LEVELS: usize = 128;

/// Problems that are told of one type: they are kept for each pair of types that is compared.
const MAX_PROBLEMS: usize = 100;

impl Plan {
    /// Compiles the plan, or says why no value of the writer can be read.
    pub(crate) fn compile(writer: &DynamicSchema, reader: &DynamicSchema) -> Result<Self, Incompatibility> {
        let (plan, problems) = compile(writer, reader);
        plan.ok_or_else(|| {
            let first = problems.iter().find(|problem| !problem.only_when_met).or(problems.first());
            first.cloned().unwrap_or_else(|| Incompatibility::new("type mismatch", "the schemas do not fit"))
        })
    }
}

/// The plan, if any value of the writer can be read, and everything that cannot.
pub(super) fn compile(writer: &DynamicSchema, reader: &DynamicSchema) -> (Option<Plan>, Vec<Incompatibility>) {
    let mut compiler = Compiler {
        writer: writer.schemas(),
        reader: reader.schemas(),
        records: Vec::new(),
        known: HashMap::new(),
        exact: HashSet::new(),
    };
    let Found { step, problems } = compiler.step(writer.root(), reader.root(), MAX_LEVELS);
    let records = compiler.records;
    let plan = step.map(|root| Plan { writer: writer.clone(), reader: reader.clone(), root, records });
    (plan, problems)
}

/// What to do with a value, if anything can be done, and what is wrong.
#[derive(Clone)]
struct Found {
    step: Option<Step>,
    problems: Vec<Incompatibility>,
}

impl Found {
    fn step(kind: Kind) -> Self {
        Self { step: Some(Step(kind)), problems: Vec::new() }
    }

    fn problem(rule: &'static str, message: impl Into<String>) -> Self {
        Self { step: None, problems: vec![Incompatibility::new(rule, message)] }
    }

    /// Around a step, with what is wrong inside.
    fn map(self, place: &str, around: impl FnOnce(Box<Step>) -> Kind) -> Self {
        let problems = self.problems.into_iter().map(|problem| problem.within(place)).collect();
        Self { step: self.step.map(|step| Step(around(Box::new(step)))), problems }
    }
}

struct Compiler<'a> {
    writer: &'a Schemas,
    reader: &'a Schemas,
    records: Vec<Option<RecordPlan>>,
    /// Pairs of named types that are compiled, or being compiled: a record may contain itself.
    known: HashMap<(TypeId, TypeId), Found>,
    /// Pairs of named types whose bytes are the same.
    exact: HashSet<(TypeId, TypeId)>,
}

impl Compiler<'_> {
    fn step(&mut self, writer: &Type, reader: &Type, levels: usize) -> Found {
        let Some(levels) = levels.checked_sub(1) else {
            return Found::problem("nesting", "the schemas are nested too deeply to be compared; flatten them");
        };
        if self.is_exact(writer, reader) {
            return Found::step(Kind::Exact);
        }
        if let Type::Union(branches) = writer {
            return self.writer_union(branches, reader, levels);
        }
        if let Type::Union(branches) = reader {
            return self.reader_union(writer, branches, levels);
        }
        if let Some(problem) = self.logical_problem(writer, reader) {
            return Found { step: None, problems: vec![problem] };
        }
        match (writer, reader) {
            (Type::Array(a), Type::Array(b)) => {
                let min_len = self.writer.min_len(a);
                self.step(a, b, levels).map("[]", |step| Kind::Array(step, min_len))
            }
            (Type::Map(a), Type::Map(b)) => {
                let min_len = 1 + self.writer.min_len(a);
                self.step(a, b, levels).map("[]", |step| Kind::Map(step, min_len))
            }
            (Type::Named(a), Type::Named(b)) => self.named(*a, *b, levels),
            _ => match promotion(writer.primitive_name(), reader.primitive_name()) {
                Some(kind) => Found::step(kind),
                None => Found::problem("type mismatch", self.differ(writer, reader)),
            },
        }
    }

    fn differ(&self, writer: &Type, reader: &Type) -> String {
        format!("{} was written where {} is read", self.writer.type_name(writer), self.reader.type_name(reader))
    }

    /// The same number in another unit would be read without an error and be wrong.
    fn logical_problem(&self, writer: &Type, reader: &Type) -> Option<Incompatibility> {
        let (a, b) = (self.writer.logical(writer)?, self.reader.logical(reader)?);
        let rule = match (a, b) {
            (Logical::Decimal { precision: a, scale: x }, Logical::Decimal { precision: b, scale: y }) => {
                if x != y {
                    "decimal scale"
                } else if a > b {
                    "decimal precision"
                } else {
                    return None;
                }
            }
            _ if a == b => return None,
            _ => "logical type",
        };
        Some(Incompatibility::new(rule, self.differ(writer, reader)))
    }

    /// Each branch for itself: those that cannot be read are errors only where they are met.
    fn writer_union(&mut self, branches: &[Type], reader: &Type, levels: usize) -> Found {
        if branches.is_empty() {
            return Found::problem("type mismatch", self.differ(&Type::Union(Vec::new()), reader));
        }
        let mut problems = Vec::new();
        let mut steps = Vec::with_capacity(branches.len());
        for branch in branches {
            let found = self.step(branch, reader, levels);
            problems.extend(found.problems.iter().cloned());
            steps.push(found.step.ok_or_else(|| {
                let why = found.problems.into_iter().find(|problem| !problem.only_when_met);
                why.map_or_else(|| self.differ(branch, reader), |why| why.to_string()).into_boxed_str()
            }));
        }
        problems.truncate(MAX_PROBLEMS);
        if steps.iter().all(Result::is_err) {
            return Found { step: None, problems };
        }
        problems.iter_mut().for_each(|problem| problem.only_when_met = true);
        Found { step: Some(Step(Kind::FromUnion(steps.into()))), problems }
    }

    /// As Java does: the branch of the same type or full name, a record of the same short name that fits, or else the
    /// first that the writer's can be promoted to.
    fn reader_union(&mut self, writer: &Type, branches: &[Type], levels: usize) -> Found {
        let same = branches.iter().position(|branch| match (writer, branch) {
            (Type::Named(a), Type::Named(b)) => same_full_name(self.writer.get(*a), self.reader.get(*b)),
            (Type::Named(_), _) | (_, Type::Named(_)) => false,
            _ => writer.primitive_name() == branch.primitive_name(),
        });
        if let Some(index) = same {
            let found = self.step(writer, &branches[index], levels);
            return found.map("", |step| Kind::IntoUnion(index, step));
        }
        let mut first = None;
        for (index, branch) in branches.iter().enumerate() {
            let found = self.step(writer, branch, levels);
            if found.step.is_some() {
                // Among records whose short names agree Java takes the last.
                let is_record = matches!(branch, Type::Named(_));
                if first.is_none() || is_record {
                    first = Some((index, found));
                }
            }
        }
        match first {
            Some((index, found)) => found.map("", |step| Kind::IntoUnion(index, step)),
            None => {
                let read = self.reader.type_name(&Type::Union(branches.to_vec()));
                let written = self.writer.type_name(writer);
                Found::problem("union branch", format!("{written} was written, which is no branch of {read}"))
            }
        }
    }

    fn named(&mut self, a: TypeId, b: TypeId, levels: usize) -> Found {
        if let Some(known) = self.known.get(&(a, b)) {
            return known.clone();
        }
        let (writer, reader) = (self.writer.get(a), self.reader.get(b));
        if !same_name(writer, reader) {
            return Found::problem(
                "name mismatch",
                format!(
                    "{} was written where {} is read; make the one an alias of the other",
                    writer.name, reader.name
                ),
            );
        }
        let found = match (&writer.definition, &reader.definition) {
            (Definition::Fixed { size: written, .. }, Definition::Fixed { size: read, .. }) => match written == read {
                true => Found::step(Kind::Exact),
                false => Found::problem(
                    "fixed size",
                    format!("{} was written with {written} bytes where {read} are read", writer.name),
                ),
            },
            (Definition::Enum { symbols: written, .. }, Definition::Enum { symbols: read, default }) => {
                enumeration(&reader.name, written, read, default.as_deref())
            }
            (Definition::Record(written), Definition::Record(read)) => {
                let index = self.records.len();
                self.records.push(None);
                self.known.insert((a, b), Found::step(Kind::Record(index)));
                let (plan, problems) = self.record(written, read, levels);
                let step = plan.is_some().then_some(Step(Kind::Record(index)));
                self.records[index] = plan;
                Found { step, problems }
            }
            _ => Found::problem(
                "type mismatch",
                format!(
                    "{} was written as {} and is read as {}",
                    writer.name,
                    kind(&writer.definition),
                    kind(&reader.definition)
                ),
            ),
        };
        self.known.insert((a, b), found.clone());
        found
    }

    fn record(
        &mut self,
        written: &[Field],
        read: &[Field],
        levels: usize,
    ) -> (Option<RecordPlan>, Vec<Incompatibility>) {
        let mut problems = Vec::new();
        let mut fits = true;
        let mut steps: Vec<Option<(usize, Step)>> = vec![None; written.len()];
        let mut defaults = Vec::with_capacity(read.len());
        for (number, (field, source)) in read.iter().zip(sources(written, read)).enumerate() {
            let mut default_bytes = None;
            let found = match (source, &field.default) {
                (Some(index), _) => {
                    let found = self.step(&written[index].ty, &field.ty, levels);
                    steps[index] = found.step.clone().map(|step| (number, step));
                    found
                }
                (None, Some(default)) => {
                    let mut bytes = Vec::new();
                    match self.reader.encode_default(&field.ty, default, &mut bytes) {
                        Some(()) => {
                            default_bytes = Some(bytes.into_boxed_slice());
                            Found::step(Kind::Exact)
                        }
                        None => Found::problem("missing default", "its default does not fit its type"),
                    }
                }
                (None, None) => {
                    let hint = did_you_mean(&field.name, written.iter().map(|field| field.name.as_str()));
                    let message = format!("was not written and has no default; give it one, or an alias{hint}");
                    Found::problem("missing default", message)
                }
            };
            fits &= found.step.is_some();
            defaults.push(default_bytes);
            problems.extend(found.problems.into_iter().map(|problem| problem.within(&field.name)));
        }
        problems.truncate(MAX_PROBLEMS);
        if !fits {
            return (None, problems);
        }
        let fields = written.iter().zip(steps).map(|(field, step)| {
            let (number, step) = step.unwrap_or((SKIPPED, Step(Kind::Exact)));
            FieldPlan { number, step, name: field.name.as_str().into(), ty: field.ty.clone() }
        });
        (Some(RecordPlan { fields: fields.collect(), defaults: defaults.into() }), problems)
    }

    /// Whether both schemas write the same bytes, named types with all that is in them.
    fn is_exact(&mut self, writer: &Type, reader: &Type) -> bool {
        let mut assumed = Vec::new();
        let same = self.same_bytes(writer, reader, &mut assumed);
        if !same {
            // What was assumed of records that contain themselves has not been shown.
            for pair in &assumed {
                self.exact.remove(pair);
            }
        }
        same
    }

    fn same_bytes(&mut self, writer: &Type, reader: &Type, assumed: &mut Vec<(TypeId, TypeId)>) -> bool {
        if self.logical_problem(writer, reader).is_some() {
            return false;
        }
        match (writer, reader) {
            (Type::Array(a), Type::Array(b)) | (Type::Map(a), Type::Map(b)) => self.same_bytes(a, b, assumed),
            (Type::Union(a), Type::Union(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.same_bytes(a, b, assumed))
            }
            (Type::Named(a), Type::Named(b)) => {
                if !self.exact.insert((*a, *b)) {
                    return true;
                }
                assumed.push((*a, *b));
                let (a, b) = (self.writer.get(*a), self.reader.get(*b));
                same_name(a, b)
                    && match (&a.definition, &b.definition) {
                        (Definition::Fixed { size: a, .. }, Definition::Fixed { size: b, .. }) => a == b,
                        (Definition::Enum { symbols: a, .. }, Definition::Enum { symbols: b, .. }) => a == b,
                        (Definition::Record(a), Definition::Record(b)) => {
                            a.len() == b.len()
                                && sources(a, b).into_iter().enumerate().all(|(index, source)| source == Some(index))
                                && a.iter().zip(b).all(|(a, b)| self.same_bytes(&a.ty, &b.ty, assumed))
                        }
                        _ => false,
                    }
            }
            (Type::Named(_) | Type::Array(_) | Type::Map(_) | Type::Union(_), _) => false,
            _ => writer.primitive_name() == reader.primitive_name(),
        }
    }
}

/// For each of the reader's fields the writer's that it is read from: the one of its name, or else of an alias.
fn sources(written: &[Field], read: &[Field]) -> Vec<Option<usize>> {
    let numbers: HashMap<_, _> =
        written.iter().enumerate().map(|(index, field)| (field.name.as_str(), index)).collect();
    let mut sources = read.iter().map(|field| numbers.get(field.name.as_str()).copied()).collect::<Vec<_>>();
    let mut taken = vec![false; written.len()];
    sources.iter().flatten().for_each(|index| taken[*index] = true);
    for (source, field) in sources.iter_mut().zip(read).filter(|(source, _)| source.is_none()) {
        // A value goes to one field only.
        let aliased = field.aliases.iter().filter_map(|alias| numbers.get(alias.as_str()).copied());
        *source = aliased.into_iter().find(|index| !std::mem::replace(&mut taken[*index], true));
    }
    sources
}

fn enumeration(name: &str, written: &[String], read: &[String], default: Option<&str>) -> Found {
    let known: HashMap<_, _> = read.iter().enumerate().map(|(number, symbol)| (symbol.as_str(), number)).collect();
    let number = |symbol: &str| known.get(symbol).copied();
    let default = default.and_then(number);
    let mut problems = Vec::new();
    let numbers = written.iter().map(|symbol| {
        number(symbol).or(default).ok_or_else(|| {
            if problems.len() == MAX_PROBLEMS {
                return format!("symbol {symbol:?} was written, which {name} does not have, nor a default").into();
            }
            let hint = did_you_mean(symbol, read.iter().map(String::as_str));
            let why = format!("symbol {symbol:?} was written, which {name} does not have, nor a default{hint}");
            let mut problem = Incompatibility::new("enum symbol", why);
            problem.only_when_met = true;
            let why = problem.to_string().into_boxed_str();
            problems.push(problem);
            why
        })
    });
    let numbers = numbers.collect();
    Found { step: Some(Step(Kind::Enum(numbers))), problems }
}

/// The specification's table of what may be read as something else.
fn promotion(writer: &str, reader: &str) -> Option<Kind> {
    Some(match (writer, reader) {
        ("int", "long") => Kind::IntToLong,
        ("int" | "long", "float") => Kind::IntegerToFloat,
        ("int" | "long", "double") => Kind::IntegerToDouble,
        ("float", "double") => Kind::FloatToDouble,
        // The reader's codec checks what must be UTF-8.
        ("string", "bytes") | ("bytes", "string") => Kind::Exact,
        (a, b) if a == b && !matches!(a, "named" | "array" | "map" | "union") => Kind::Exact,
        _ => return None,
    })
}

fn kind(definition: &Definition) -> &'static str {
    match definition {
        Definition::Record(_) => "a record",
        Definition::Enum { .. } => "an enum",
        Definition::Fixed { .. } => "a fixed",
    }
}

fn same_full_name(writer: &Named, reader: &Named) -> bool {
    writer.name == reader.name || reader.aliases.contains(&writer.name)
}

/// By the specification: the unqualified names agree, or an alias of the reader's is the writer's name.
fn same_name(writer: &Named, reader: &Named) -> bool {
    writer.simple_name() == reader.simple_name() || reader.aliases.contains(&writer.name)
}
