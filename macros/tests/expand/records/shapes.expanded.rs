///Namespace `draw`.
pub mod draw {
    ///What is drawn.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Shape {
        ///Field `label`: `null | string`.
        pub label: ::core::option::Option<::std::string::String>,
        ///Field `outline`: `null | geometry.Point | draw.Shape | double`.
        pub outline: ShapeOutline,
        ///Field `parts`: `array<draw.Shape>`.
        pub parts: ::std::vec::Vec<Shape>,
    }
    ///[`Shape`], borrowed from the bytes that it was read from.
    #[derive(Clone, Debug)]
    pub struct ShapeView<'a> {
        ///Field `label`: `null | string`.
        pub label: ::core::option::Option<&'a str>,
        ///Field `outline`: `null | geometry.Point | draw.Shape | double`.
        pub outline: ShapeOutlineView<'a>,
        ///Field `parts`: `array<draw.Shape>`.
        pub parts: ::gretchen::__private::ArrayView<
            'a,
            ::gretchen::__private::Recursive<Shape, 3usize>,
        >,
    }
    #[automatically_derived]
    impl ::core::default::Default for Shape {
        ///Every field as the schema's default says, or else zero, empty or none.
        fn default() -> Self {
            Self {
                label: ::gretchen::__private::default_of::<
                    ::gretchen::__private::Optional<::gretchen::__private::Str, 0i64>,
                >(b"\0")
                    .unwrap_or_else(|| ::core::option::Option::None),
                outline: <ShapeOutline as ::core::default::Default>::default(),
                parts: ::gretchen::__private::default_of::<
                    ::gretchen::__private::Array<
                        ::gretchen::__private::Recursive<Shape, 3usize>,
                    >,
                >(b"\0")
                    .unwrap_or_else(|| ::std::vec::Vec::new()),
            }
        }
    }
    #[automatically_derived]
    impl ::gretchen::__private::Record for Shape {
        type View<'a> = ShapeView<'a>;
        const SCHEMA: &'static ::gretchen::__private::RecordSchema = &::gretchen::__private::RecordSchema {
            name: "draw.Shape",
            json: "{\"name\":\"draw.Shape\",\"type\":\"record\",\"doc\":\"What is drawn.\",\"fields\":[{\"name\":\"label\",\"type\":[\"null\",\"string\"],\"default\":null},{\"name\":\"outline\",\"type\":[\"null\",{\"name\":\"geometry.Point\",\"type\":\"record\",\"fields\":[{\"name\":\"x\",\"type\":\"int\"},{\"name\":\"type\",\"type\":[\"int\",\"long\"],\"default\":3000000000}]},\"draw.Shape\",\"double\"]},{\"name\":\"parts\",\"type\":{\"type\":\"array\",\"items\":\"draw.Shape\"},\"default\":[]}]}",
            fingerprint: 658997471560773684u64,
            doc: "What is drawn.",
            fields: &[
                ::gretchen::__private::FieldSchema {
                    name: "label",
                    scalar: "label",
                    type_name: "null | string",
                    default: ::core::option::Option::Some("null"),
                    doc: "",
                },
                ::gretchen::__private::FieldSchema {
                    name: "outline",
                    scalar: "",
                    type_name: "null | geometry.Point | draw.Shape | double",
                    default: ::core::option::Option::None,
                    doc: "",
                },
                ::gretchen::__private::FieldSchema {
                    name: "parts",
                    scalar: "",
                    type_name: "array<draw.Shape>",
                    default: ::core::option::Option::Some("[]"),
                    doc: "",
                },
            ],
        };
        #[inline]
        fn encode(
            &self,
            out: &mut ::std::vec::Vec<u8>,
        ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
            let _ = &out;
            if let ::core::result::Result::Err(error) = <::gretchen::__private::Optional<
                ::gretchen::__private::Str,
                0i64,
            > as ::gretchen::__private::Codec>::encode(&self.label, out) {
                return ::core::result::Result::Err(
                    ::gretchen::__private::encode_within(error, "label"),
                );
            }
            if let ::core::result::Result::Err(error) = <ShapeOutline as ::gretchen::__private::Codec>::encode(
                &self.outline,
                out,
            ) {
                return ::core::result::Result::Err(
                    ::gretchen::__private::encode_within(error, "outline"),
                );
            }
            if let ::core::result::Result::Err(error) = <::gretchen::__private::Array<
                ::gretchen::__private::Recursive<Shape, 3usize>,
            > as ::gretchen::__private::Codec>::encode(&self.parts, out) {
                return ::core::result::Result::Err(
                    ::gretchen::__private::encode_within(error, "parts"),
                );
            }
            ::core::result::Result::Ok(())
        }
        #[inline(always)]
        fn decode(
            input: &mut ::gretchen::__private::Input<'_>,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            let _ = &input;
            let label_ = match <::gretchen::__private::Optional<
                ::gretchen::__private::Str,
                0i64,
            > as ::gretchen::__private::Codec>::decode(input) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "label"),
                    );
                }
            };
            let outline_ = match <ShapeOutline as ::gretchen::__private::Codec>::decode(
                input,
            ) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "outline"),
                    );
                }
            };
            let parts_ = match <::gretchen::__private::Array<
                ::gretchen::__private::Recursive<Shape, 3usize>,
            > as ::gretchen::__private::Codec>::decode(input) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "parts"),
                    );
                }
            };
            ::core::result::Result::Ok(Self {
                label: label_,
                outline: outline_,
                parts: parts_,
            })
        }
        #[inline(always)]
        fn view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
        ) -> ::core::result::Result<Self::View<'a>, ::gretchen::__private::DecodeError> {
            let _ = &input;
            let label_ = match <::gretchen::__private::Optional<
                ::gretchen::__private::Str,
                0i64,
            > as ::gretchen::__private::Codec>::view(input) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "label"),
                    );
                }
            };
            let outline_ = match <ShapeOutline as ::gretchen::__private::Codec>::view(
                input,
            ) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "outline"),
                    );
                }
            };
            let parts_ = match <::gretchen::__private::Array<
                ::gretchen::__private::Recursive<Shape, 3usize>,
            > as ::gretchen::__private::Codec>::view(input) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "parts"),
                    );
                }
            };
            ::core::result::Result::Ok(ShapeView {
                label: label_,
                outline: outline_,
                parts: parts_,
            })
        }
        fn resolve(
            input: &mut ::gretchen::__private::Input<'_>,
            step: &::gretchen::__private::Step,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            let plan = input.record_plan(step)?;
            let mut label_ = ::core::option::Option::None;
            let mut outline_ = ::core::option::Option::None;
            let mut parts_ = ::core::option::Option::None;
            for written in plan.fields() {
                match written.number() {
                    0usize => {
                        match <::gretchen::__private::Optional<
                            ::gretchen::__private::Str,
                            0i64,
                        > as ::gretchen::__private::Codec>::resolve(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                label_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "label"),
                                );
                            }
                        }
                    }
                    1usize => {
                        match <ShapeOutline as ::gretchen::__private::Codec>::resolve(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                outline_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "outline"),
                                );
                            }
                        }
                    }
                    2usize => {
                        match <::gretchen::__private::Array<
                            ::gretchen::__private::Recursive<Shape, 3usize>,
                        > as ::gretchen::__private::Codec>::resolve(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                parts_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "parts"),
                                );
                            }
                        }
                    }
                    _ => written.skip(input)?,
                }
            }
            let label_ = match label_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::resolve_default::<
                        ::gretchen::__private::Optional<::gretchen::__private::Str, 0i64>,
                    >(plan, 0usize, input)?
                }
            };
            let outline_ = match outline_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::resolve_default::<
                        ShapeOutline,
                    >(plan, 1usize, input)?
                }
            };
            let parts_ = match parts_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::resolve_default::<
                        ::gretchen::__private::Array<
                            ::gretchen::__private::Recursive<Shape, 3usize>,
                        >,
                    >(plan, 2usize, input)?
                }
            };
            ::core::result::Result::Ok(Self {
                label: label_,
                outline: outline_,
                parts: parts_,
            })
        }
        fn resolve_view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
            step: &'a ::gretchen::__private::Step,
        ) -> ::core::result::Result<Self::View<'a>, ::gretchen::__private::DecodeError> {
            let plan = input.record_plan(step)?;
            let mut label_ = ::core::option::Option::None;
            let mut outline_ = ::core::option::Option::None;
            let mut parts_ = ::core::option::Option::None;
            for written in plan.fields() {
                match written.number() {
                    0usize => {
                        match <::gretchen::__private::Optional<
                            ::gretchen::__private::Str,
                            0i64,
                        > as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                label_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "label"),
                                );
                            }
                        }
                    }
                    1usize => {
                        match <ShapeOutline as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                outline_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "outline"),
                                );
                            }
                        }
                    }
                    2usize => {
                        match <::gretchen::__private::Array<
                            ::gretchen::__private::Recursive<Shape, 3usize>,
                        > as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                parts_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "parts"),
                                );
                            }
                        }
                    }
                    _ => written.skip(input)?,
                }
            }
            let label_ = match label_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::view_default::<
                        ::gretchen::__private::Optional<::gretchen::__private::Str, 0i64>,
                    >(plan, 0usize, input)?
                }
            };
            let outline_ = match outline_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::view_default::<
                        ShapeOutline,
                    >(plan, 1usize, input)?
                }
            };
            let parts_ = match parts_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::view_default::<
                        ::gretchen::__private::Array<
                            ::gretchen::__private::Recursive<Shape, 3usize>,
                        >,
                    >(plan, 2usize, input)?
                }
            };
            ::core::result::Result::Ok(ShapeView {
                label: label_,
                outline: outline_,
                parts: parts_,
            })
        }
        #[inline]
        fn from_view(view: &Self::View<'_>) -> Self {
            let _ = view;
            Self {
                label: <::gretchen::__private::Optional<
                    ::gretchen::__private::Str,
                    0i64,
                > as ::gretchen::__private::Codec>::own(&view.label),
                outline: <ShapeOutline as ::gretchen::__private::Codec>::own(
                    &view.outline,
                ),
                parts: <::gretchen::__private::Array<
                    ::gretchen::__private::Recursive<Shape, 3usize>,
                > as ::gretchen::__private::Codec>::own(&view.parts),
            }
        }
    }
    #[automatically_derived]
    impl ::gretchen::__private::HasField<{ ::gretchen::__private::field_id("label") }>
    for Shape {
        type Type = ::core::option::Option<::std::string::String>;
        const FIELD: &'static str = "label";
        #[inline]
        fn get<'a>(
            view: &<Self as ::gretchen::__private::Record>::View<'a>,
        ) -> <<Shape as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("label") },
        >>::Type as ::gretchen::__private::FieldType>::View<'a> {
            view.label
        }
        #[inline]
        fn set(
            &mut self,
            value: <Shape as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("label") },
            >>::Type,
        ) {
            self.label = value;
        }
    }
    ///In field `outline` of [`Shape`]: `null | geometry.Point | draw.Shape | double`.
    #[derive(Clone, Debug, PartialEq)]
    pub enum ShapeOutline {
        ///`null`
        Null,
        ///`geometry.Point`
        Point(super::geometry::Point),
        ///`draw.Shape`
        Shape(::std::boxed::Box<Shape>),
        ///`double`
        Double(f64),
    }
    ///[`ShapeOutline`], borrowed from the bytes that it was read from.
    #[derive(Clone, Debug)]
    pub enum ShapeOutlineView<'a> {
        ///`null`
        Null,
        ///`geometry.Point`
        Point(super::geometry::PointView<'a>),
        ///`draw.Shape`
        Shape(::std::boxed::Box<ShapeView<'a>>),
        ///`double`
        Double(f64),
    }
    #[automatically_derived]
    impl ::core::default::Default for ShapeOutline {
        fn default() -> Self {
            Self::Null
        }
    }
    #[automatically_derived]
    impl ::gretchen::__private::Codec for ShapeOutline {
        type Owned = Self;
        type View<'a> = ShapeOutlineView<'a>;
        const MIN_LEN: usize = 1;
        fn encode(
            value: &Self,
            out: &mut ::std::vec::Vec<u8>,
        ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
            match value {
                Self::Null => {
                    ::gretchen::__private::write_branch(0usize, out);
                    ::core::result::Result::Ok(())
                }
                Self::Point(value) => {
                    ::gretchen::__private::write_branch(1usize, out);
                    <::gretchen::__private::Nested<
                        super::geometry::Point,
                        2usize,
                    > as ::gretchen::__private::Codec>::encode(value, out)
                }
                Self::Shape(value) => {
                    ::gretchen::__private::write_branch(2usize, out);
                    <::gretchen::__private::Boxed<
                        ::gretchen::__private::Recursive<Shape, 3usize>,
                    > as ::gretchen::__private::Codec>::encode(value, out)
                }
                Self::Double(value) => {
                    ::gretchen::__private::write_branch(3usize, out);
                    <::gretchen::__private::Double as ::gretchen::__private::Codec>::encode(
                        value,
                        out,
                    )
                }
            }
        }
        fn decode(
            input: &mut ::gretchen::__private::Input<'_>,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            match input.read_index(4usize)? {
                0usize => ::core::result::Result::Ok(Self::Null),
                1usize => {
                    <::gretchen::__private::Nested<
                        super::geometry::Point,
                        2usize,
                    > as ::gretchen::__private::Codec>::decode(input)
                        .map(Self::Point)
                }
                2usize => {
                    <::gretchen::__private::Boxed<
                        ::gretchen::__private::Recursive<Shape, 3usize>,
                    > as ::gretchen::__private::Codec>::decode(input)
                        .map(Self::Shape)
                }
                _ => {
                    <::gretchen::__private::Double as ::gretchen::__private::Codec>::decode(
                            input,
                        )
                        .map(Self::Double)
                }
            }
        }
        fn view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
        ) -> ::core::result::Result<
            ShapeOutlineView<'a>,
            ::gretchen::__private::DecodeError,
        > {
            match input.read_index(4usize)? {
                0usize => ::core::result::Result::Ok(ShapeOutlineView::Null),
                1usize => {
                    <::gretchen::__private::Nested<
                        super::geometry::Point,
                        2usize,
                    > as ::gretchen::__private::Codec>::view(input)
                        .map(ShapeOutlineView::Point)
                }
                2usize => {
                    <::gretchen::__private::Boxed<
                        ::gretchen::__private::Recursive<Shape, 3usize>,
                    > as ::gretchen::__private::Codec>::view(input)
                        .map(ShapeOutlineView::Shape)
                }
                _ => {
                    <::gretchen::__private::Double as ::gretchen::__private::Codec>::view(
                            input,
                        )
                        .map(ShapeOutlineView::Double)
                }
            }
        }
        fn own(view: &ShapeOutlineView<'_>) -> Self {
            match view {
                ShapeOutlineView::Null => Self::Null,
                ShapeOutlineView::Point(value) => {
                    Self::Point(
                        <::gretchen::__private::Nested<
                            super::geometry::Point,
                            2usize,
                        > as ::gretchen::__private::Codec>::own(value),
                    )
                }
                ShapeOutlineView::Shape(value) => {
                    Self::Shape(
                        <::gretchen::__private::Boxed<
                            ::gretchen::__private::Recursive<Shape, 3usize>,
                        > as ::gretchen::__private::Codec>::own(value),
                    )
                }
                ShapeOutlineView::Double(value) => {
                    Self::Double(
                        <::gretchen::__private::Double as ::gretchen::__private::Codec>::own(
                            value,
                        ),
                    )
                }
            }
        }
        fn convert(
            input: &mut ::gretchen::__private::Input<'_>,
            step: &::gretchen::__private::Step,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            match step.branch() {
                ::core::option::Option::Some((0usize, _)) => {
                    ::core::result::Result::Ok(Self::Null)
                }
                ::core::option::Option::Some((1usize, step)) => {
                    <::gretchen::__private::Nested<
                        super::geometry::Point,
                        2usize,
                    > as ::gretchen::__private::Codec>::resolve(input, step)
                        .map(Self::Point)
                }
                ::core::option::Option::Some((2usize, step)) => {
                    <::gretchen::__private::Boxed<
                        ::gretchen::__private::Recursive<Shape, 3usize>,
                    > as ::gretchen::__private::Codec>::resolve(input, step)
                        .map(Self::Shape)
                }
                ::core::option::Option::Some((3usize, step)) => {
                    <::gretchen::__private::Double as ::gretchen::__private::Codec>::resolve(
                            input,
                            step,
                        )
                        .map(Self::Double)
                }
                _ => ::core::result::Result::Err(::gretchen::__private::no_plan(input)),
            }
        }
        fn convert_view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
            step: &'a ::gretchen::__private::Step,
        ) -> ::core::result::Result<
            ShapeOutlineView<'a>,
            ::gretchen::__private::DecodeError,
        > {
            match step.branch() {
                ::core::option::Option::Some((0usize, _)) => {
                    ::core::result::Result::Ok(ShapeOutlineView::Null)
                }
                ::core::option::Option::Some((1usize, step)) => {
                    <::gretchen::__private::Nested<
                        super::geometry::Point,
                        2usize,
                    > as ::gretchen::__private::Codec>::resolve_view(input, step)
                        .map(ShapeOutlineView::Point)
                }
                ::core::option::Option::Some((2usize, step)) => {
                    <::gretchen::__private::Boxed<
                        ::gretchen::__private::Recursive<Shape, 3usize>,
                    > as ::gretchen::__private::Codec>::resolve_view(input, step)
                        .map(ShapeOutlineView::Shape)
                }
                ::core::option::Option::Some((3usize, step)) => {
                    <::gretchen::__private::Double as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            step,
                        )
                        .map(ShapeOutlineView::Double)
                }
                _ => ::core::result::Result::Err(::gretchen::__private::no_plan(input)),
            }
        }
    }
    #[automatically_derived]
    impl ::core::convert::From<super::geometry::Point> for ShapeOutline {
        fn from(value: super::geometry::Point) -> Self {
            Self::Point(value)
        }
    }
    #[automatically_derived]
    impl ::core::convert::From<Shape> for ShapeOutline {
        fn from(value: Shape) -> Self {
            Self::Shape(::std::boxed::Box::new(value))
        }
    }
    #[automatically_derived]
    impl ::core::convert::From<f64> for ShapeOutline {
        fn from(value: f64) -> Self {
            Self::Double(value)
        }
    }
}
///Namespace `geometry`.
pub mod geometry {
    ///Record `geometry.Point`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Point {
        ///Field `x`: `int`.
        pub x: i32,
        ///Field `type`: `int | long`.
        pub r#type: PointType,
    }
    ///[`Point`], borrowed from the bytes that it was read from.
    #[derive(Clone, Debug)]
    pub struct PointView<'a> {
        ///Field `x`: `int`.
        pub x: i32,
        ///Field `type`: `int | long`.
        pub r#type: PointType,
        #[doc(hidden)]
        pub __bytes: ::core::marker::PhantomData<&'a ()>,
    }
    #[automatically_derived]
    impl ::core::default::Default for Point {
        ///Every field as the schema's default says, or else zero, empty or none.
        fn default() -> Self {
            Self {
                x: 0,
                r#type: ::gretchen::__private::default_of::<
                    PointType,
                >(b"\x02\x80\xF8\x82\xAD\x16")
                    .unwrap_or_else(|| <PointType as ::core::default::Default>::default()),
            }
        }
    }
    #[automatically_derived]
    impl ::gretchen::__private::Record for Point {
        type View<'a> = PointView<'a>;
        const SCHEMA: &'static ::gretchen::__private::RecordSchema = &::gretchen::__private::RecordSchema {
            name: "geometry.Point",
            json: "{\"name\":\"geometry.Point\",\"type\":\"record\",\"fields\":[{\"name\":\"x\",\"type\":\"int\"},{\"name\":\"type\",\"type\":[\"int\",\"long\"],\"default\":3000000000}]}",
            fingerprint: 2886172743073584954u64,
            doc: "",
            fields: &[
                ::gretchen::__private::FieldSchema {
                    name: "x",
                    scalar: "x",
                    type_name: "int",
                    default: ::core::option::Option::None,
                    doc: "",
                },
                ::gretchen::__private::FieldSchema {
                    name: "type",
                    scalar: "",
                    type_name: "int | long",
                    default: ::core::option::Option::Some("3000000000"),
                    doc: "",
                },
            ],
        };
        #[inline]
        fn encode(
            &self,
            out: &mut ::std::vec::Vec<u8>,
        ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
            let _ = &out;
            if let ::core::result::Result::Err(error) = <::gretchen::__private::Int as ::gretchen::__private::Codec>::encode(
                &self.x,
                out,
            ) {
                return ::core::result::Result::Err(
                    ::gretchen::__private::encode_within(error, "x"),
                );
            }
            if let ::core::result::Result::Err(error) = <PointType as ::gretchen::__private::Codec>::encode(
                &self.r#type,
                out,
            ) {
                return ::core::result::Result::Err(
                    ::gretchen::__private::encode_within(error, "type"),
                );
            }
            ::core::result::Result::Ok(())
        }
        #[inline(always)]
        fn decode(
            input: &mut ::gretchen::__private::Input<'_>,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            let _ = &input;
            let x_ = match <::gretchen::__private::Int as ::gretchen::__private::Codec>::decode(
                input,
            ) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "x"),
                    );
                }
            };
            let type_ = match <PointType as ::gretchen::__private::Codec>::decode(
                input,
            ) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "type"),
                    );
                }
            };
            ::core::result::Result::Ok(Self { x: x_, r#type: type_ })
        }
        #[inline(always)]
        fn view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
        ) -> ::core::result::Result<Self::View<'a>, ::gretchen::__private::DecodeError> {
            let _ = &input;
            let x_ = match <::gretchen::__private::Int as ::gretchen::__private::Codec>::view(
                input,
            ) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "x"),
                    );
                }
            };
            let type_ = match <PointType as ::gretchen::__private::Codec>::view(input) {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => {
                    return ::core::result::Result::Err(
                        ::gretchen::__private::decode_within(error, "type"),
                    );
                }
            };
            ::core::result::Result::Ok(PointView {
                x: x_,
                r#type: type_,
                __bytes: ::core::marker::PhantomData,
            })
        }
        fn resolve(
            input: &mut ::gretchen::__private::Input<'_>,
            step: &::gretchen::__private::Step,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            let plan = input.record_plan(step)?;
            let mut x_ = ::core::option::Option::None;
            let mut type_ = ::core::option::Option::None;
            for written in plan.fields() {
                match written.number() {
                    0usize => {
                        match <::gretchen::__private::Int as ::gretchen::__private::Codec>::resolve(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                x_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "x"),
                                );
                            }
                        }
                    }
                    1usize => {
                        match <PointType as ::gretchen::__private::Codec>::resolve(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                type_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "type"),
                                );
                            }
                        }
                    }
                    _ => written.skip(input)?,
                }
            }
            let x_ = match x_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::resolve_default::<
                        ::gretchen::__private::Int,
                    >(plan, 0usize, input)?
                }
            };
            let type_ = match type_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::resolve_default::<
                        PointType,
                    >(plan, 1usize, input)?
                }
            };
            ::core::result::Result::Ok(Self { x: x_, r#type: type_ })
        }
        fn resolve_view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
            step: &'a ::gretchen::__private::Step,
        ) -> ::core::result::Result<Self::View<'a>, ::gretchen::__private::DecodeError> {
            let plan = input.record_plan(step)?;
            let mut x_ = ::core::option::Option::None;
            let mut type_ = ::core::option::Option::None;
            for written in plan.fields() {
                match written.number() {
                    0usize => {
                        match <::gretchen::__private::Int as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                x_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "x"),
                                );
                            }
                        }
                    }
                    1usize => {
                        match <PointType as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            written.step(),
                        ) {
                            ::core::result::Result::Ok(value) => {
                                type_ = ::core::option::Option::Some(value);
                            }
                            ::core::result::Result::Err(error) => {
                                return ::core::result::Result::Err(
                                    ::gretchen::__private::decode_within(error, "type"),
                                );
                            }
                        }
                    }
                    _ => written.skip(input)?,
                }
            }
            let x_ = match x_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::view_default::<
                        ::gretchen::__private::Int,
                    >(plan, 0usize, input)?
                }
            };
            let type_ = match type_ {
                ::core::option::Option::Some(value) => value,
                ::core::option::Option::None => {
                    ::gretchen::__private::view_default::<
                        PointType,
                    >(plan, 1usize, input)?
                }
            };
            ::core::result::Result::Ok(PointView {
                x: x_,
                r#type: type_,
                __bytes: ::core::marker::PhantomData,
            })
        }
        #[inline]
        fn from_view(view: &Self::View<'_>) -> Self {
            let _ = view;
            Self {
                x: <::gretchen::__private::Int as ::gretchen::__private::Codec>::own(
                    &view.x,
                ),
                r#type: <PointType as ::gretchen::__private::Codec>::own(&view.r#type),
            }
        }
    }
    #[automatically_derived]
    impl ::gretchen::__private::HasField<{ ::gretchen::__private::field_id("x") }>
    for Point {
        type Type = i32;
        const FIELD: &'static str = "x";
        #[inline]
        fn get<'a>(
            view: &<Self as ::gretchen::__private::Record>::View<'a>,
        ) -> <<Point as ::gretchen::__private::HasField<
            { ::gretchen::__private::field_id("x") },
        >>::Type as ::gretchen::__private::FieldType>::View<'a> {
            view.x
        }
        #[inline]
        fn set(
            &mut self,
            value: <Point as ::gretchen::__private::HasField<
                { ::gretchen::__private::field_id("x") },
            >>::Type,
        ) {
            self.x = value;
        }
    }
    ///In field `type` of [`Point`]: `int | long`.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum PointType {
        ///`int`
        Int(i32),
        ///`long`
        Long(i64),
    }
    #[automatically_derived]
    impl ::core::default::Default for PointType {
        fn default() -> Self {
            Self::Int(0)
        }
    }
    #[automatically_derived]
    impl ::gretchen::__private::Codec for PointType {
        type Owned = Self;
        type View<'a> = PointType;
        const MIN_LEN: usize = 1;
        fn encode(
            value: &Self,
            out: &mut ::std::vec::Vec<u8>,
        ) -> ::core::result::Result<(), ::gretchen::__private::EncodeError> {
            match value {
                Self::Int(value) => {
                    ::gretchen::__private::write_branch(0usize, out);
                    <::gretchen::__private::Int as ::gretchen::__private::Codec>::encode(
                        value,
                        out,
                    )
                }
                Self::Long(value) => {
                    ::gretchen::__private::write_branch(1usize, out);
                    <::gretchen::__private::Long as ::gretchen::__private::Codec>::encode(
                        value,
                        out,
                    )
                }
            }
        }
        fn decode(
            input: &mut ::gretchen::__private::Input<'_>,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            match input.read_index(2usize)? {
                0usize => {
                    <::gretchen::__private::Int as ::gretchen::__private::Codec>::decode(
                            input,
                        )
                        .map(Self::Int)
                }
                _ => {
                    <::gretchen::__private::Long as ::gretchen::__private::Codec>::decode(
                            input,
                        )
                        .map(Self::Long)
                }
            }
        }
        fn view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
        ) -> ::core::result::Result<PointType, ::gretchen::__private::DecodeError> {
            match input.read_index(2usize)? {
                0usize => {
                    <::gretchen::__private::Int as ::gretchen::__private::Codec>::view(
                            input,
                        )
                        .map(PointType::Int)
                }
                _ => {
                    <::gretchen::__private::Long as ::gretchen::__private::Codec>::view(
                            input,
                        )
                        .map(PointType::Long)
                }
            }
        }
        fn own(view: &PointType) -> Self {
            match view {
                PointType::Int(value) => {
                    Self::Int(
                        <::gretchen::__private::Int as ::gretchen::__private::Codec>::own(
                            value,
                        ),
                    )
                }
                PointType::Long(value) => {
                    Self::Long(
                        <::gretchen::__private::Long as ::gretchen::__private::Codec>::own(
                            value,
                        ),
                    )
                }
            }
        }
        fn convert(
            input: &mut ::gretchen::__private::Input<'_>,
            step: &::gretchen::__private::Step,
        ) -> ::core::result::Result<Self, ::gretchen::__private::DecodeError> {
            match step.branch() {
                ::core::option::Option::Some((0usize, step)) => {
                    <::gretchen::__private::Int as ::gretchen::__private::Codec>::resolve(
                            input,
                            step,
                        )
                        .map(Self::Int)
                }
                ::core::option::Option::Some((1usize, step)) => {
                    <::gretchen::__private::Long as ::gretchen::__private::Codec>::resolve(
                            input,
                            step,
                        )
                        .map(Self::Long)
                }
                _ => ::core::result::Result::Err(::gretchen::__private::no_plan(input)),
            }
        }
        fn convert_view<'a>(
            input: &mut ::gretchen::__private::Input<'a>,
            step: &'a ::gretchen::__private::Step,
        ) -> ::core::result::Result<PointType, ::gretchen::__private::DecodeError> {
            match step.branch() {
                ::core::option::Option::Some((0usize, step)) => {
                    <::gretchen::__private::Int as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            step,
                        )
                        .map(PointType::Int)
                }
                ::core::option::Option::Some((1usize, step)) => {
                    <::gretchen::__private::Long as ::gretchen::__private::Codec>::resolve_view(
                            input,
                            step,
                        )
                        .map(PointType::Long)
                }
                _ => ::core::result::Result::Err(::gretchen::__private::no_plan(input)),
            }
        }
    }
    #[automatically_derived]
    impl ::core::convert::From<i32> for PointType {
        fn from(value: i32) -> Self {
            Self::Int(value)
        }
    }
    #[automatically_derived]
    impl ::core::convert::From<i64> for PointType {
        fn from(value: i64) -> Self {
            Self::Long(value)
        }
    }
}
