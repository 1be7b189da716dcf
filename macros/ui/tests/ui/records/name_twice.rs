gretchen::records!(
    "../../../../macros/ui/tests/ui/records/name_twice.avsc",
    "../../../../macros/ui/tests/ui/records/name_twice_2.avsc",
);

fn main() {}
