// Other parsers of a header: JSON libraries from Debian's packages, each with the table that a
// reader needs: name to dtype, shape and offsets. Only those that CMake found are used. None does
// the checks of our parser.
#ifndef SAFEFUSE_TESTS_BENCHMARK_JSON_PEERS_HPP
#define SAFEFUSE_TESTS_BENCHMARK_JSON_PEERS_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "measure.hpp"

#ifdef SAFEFUSE_HAS_NLOHMANN
#include <nlohmann/json.hpp>
#endif
#ifdef SAFEFUSE_HAS_RAPIDJSON
#include <rapidjson/reader.h>
#endif
#ifdef SAFEFUSE_HAS_SIMDJSON
#include <simdjson.h>
#endif

namespace json_peers {

template <class Name>
struct row {
    Name dtype;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0, end = 0;
};
template <class Name>
using table = std::unordered_map<Name, row<Name>>;

#ifdef SAFEFUSE_HAS_NLOHMANN
inline std::size_t nlohmann_dom(std::string_view json) {
    table<std::string> out;
    const auto root = nlohmann::json::parse(json);
    for (const auto& [name, value] : root.items()) {
        if (name == "__metadata__") continue;
        row<std::string>& made = out[name];
        made.dtype = value.at("dtype").get<std::string>();
        made.shape = value.at("shape").get<std::vector<std::uint64_t>>();
        made.begin = value.at("data_offsets").at(0).get<std::uint64_t>();
        made.end = value.at("data_offsets").at(1).get<std::uint64_t>();
    }
    return out.size();
}
#endif

#ifdef SAFEFUSE_HAS_RAPIDJSON
struct sax_handler : rapidjson::BaseReaderHandler<rapidjson::UTF8<>, sax_handler> {
    table<std::string> out;
    std::string name;
    row<std::string> made;
    int depth = 0;
    char field = 0;
    bool is_metadata = false;

    bool Key(const char* text, rapidjson::SizeType size, bool) {
        if (depth == 1) {
            name.assign(text, size);
            is_metadata = name == "__metadata__";
            made = {};
        } else {
            field = *text == 'd' && size == 12 ? 'o' : *text;
        }
        return true;
    }
    bool String(const char* text, rapidjson::SizeType size, bool) {
        if (!is_metadata && field == 'd') made.dtype.assign(text, size);
        return true;
    }
    bool Uint64(std::uint64_t number) {
        if (field == 's')
            made.shape.push_back(number);
        else
            made.begin = std::exchange(made.end, number);
        return true;
    }
    bool Uint(unsigned number) { return Uint64(number); }
    bool StartObject() { return ++depth != 0; }
    bool EndObject(rapidjson::SizeType) {
        if (--depth == 1 && !is_metadata) out.emplace(std::move(name), std::move(made));
        return true;
    }
};
inline std::size_t rapidjson_sax(const std::string& json) {
    rapidjson::Reader reader;
    rapidjson::StringStream stream{json.c_str()};
    sax_handler handler;
    reader.Parse(stream, handler);
    return handler.out.size();
}
#endif

#ifdef SAFEFUSE_HAS_SIMDJSON
template <class Value>
void fill(row<std::string_view>& made, Value&& value) {
    made.dtype = std::string_view{value["dtype"]};
    for (auto extent : value["shape"].get_array()) made.shape.push_back(std::uint64_t{extent});
    std::uint64_t* to = &made.begin;
    for (auto offset : value["data_offsets"].get_array())
        *std::exchange(to, &made.end) = std::uint64_t{offset};
}
inline std::size_t simdjson_dom(simdjson::dom::parser& parser,
                                const simdjson::padded_string& json) {
    table<std::string_view> out;
    for (const auto& [name, value] : parser.parse(json).get_object())
        if (name != "__metadata__") fill(out[name], value);
    return out.size();
}
inline std::size_t simdjson_tape(simdjson::dom::parser& parser,
                                 const simdjson::padded_string& json) {
    return parser.parse(json).get_object().size();
}
inline std::size_t simdjson_on_demand(simdjson::ondemand::parser& parser,
                                      const simdjson::padded_string& json) {
    table<std::string_view> out;
    auto document = parser.iterate(json);
    for (auto field : document.get_object()) {
        const std::string_view name = field.unescaped_key();
        if (name != "__metadata__") fill(out[name], field.value());
    }
    return out.size();
}
#endif

/// Enters all available parsers into a race over one header. Reports those that are missing and how
/// to install them.
inline void enter(measure::program& program, measure::race& race,
                  [[maybe_unused]] const std::string& json) {
#ifdef SAFEFUSE_HAS_SIMDJSON
    race.add("simdjson on-demand, into a map",
             [parser = std::make_shared<simdjson::ondemand::parser>(),
              padded = std::make_shared<simdjson::padded_string>(json)] {
                 measure::keep(simdjson_on_demand(*parser, *padded));
             });
    const auto parser = std::make_shared<simdjson::dom::parser>();
    const auto padded = std::make_shared<simdjson::padded_string>(json);
    race.add("simdjson DOM, into a map", [=] { measure::keep(simdjson_dom(*parser, *padded)); });
    race.add("simdjson DOM, tape alone: no table",
             [=] { measure::keep(simdjson_tape(*parser, *padded)); });
#else
    program.missing("simdjson", "Debian's libsimdjson-dev");
#endif
#ifdef SAFEFUSE_HAS_RAPIDJSON
    race.add("rapidjson SAX, into a map", [&json] { measure::keep(rapidjson_sax(json)); });
#else
    program.missing("rapidjson", "Debian's rapidjson-dev");
#endif
#ifdef SAFEFUSE_HAS_NLOHMANN
    race.add("nlohmann DOM, into a map", [&json] { measure::keep(nlohmann_dom(json)); });
#else
    program.missing("nlohmann-json", "Debian's nlohmann-json3-dev");
#endif
    static_cast<void>(program);
    static_cast<void>(race);
}

}  // namespace json_peers

#endif
