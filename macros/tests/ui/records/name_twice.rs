gretchen::records!(
    "../../../../macros/tests/ui/records/name_twice.avsc",
    "../../../../macros/tests/ui/records/name_twice_2.avsc",
);

fn main() {}
