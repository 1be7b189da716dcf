gretchen::records!(
    "../../../../macros/tests/ui/records/types_clash.avsc",
    "../../../../macros/tests/ui/records/types_clash_2.avsc",
);

fn main() {}
