// README holds a table of families; it must be the one that the code gives. (Its C++ is compiled and run by ctest: "readme: ...".)
#include <safefuse/layouts/known.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace sf = safefuse;

namespace {

std::string tensors_of(const sf::layout_description& layout, std::string_view module) {
    std::string out;
    for (const sf::tensor_description& tensor : layout.tensors) {
        const std::string name = std::string{tensor.name} + "`";
        if (out.find("`" + name) == std::string::npos && out.find("." + name) == std::string::npos)  // several groups of experts
            out += (out.empty() ? "`" + std::string{module} + "." : ", `") + name;
    }
    return out;
}
std::string tensors_of(const sf::family_description& family, bool stored) {
    std::string out;
    for (std::size_t m = 0; m < family.module_count(); ++m) {
        const sf::module_description module = family.module_at(m);
        out +=
            (m == 0 ? "" : "; ") + (stored ? tensors_of(*module.from, module.from_path) : tensors_of(*module.to, module.to_path));
    }
    return out;
}

std::string table_of_families() {
    std::string out = "| family | experts on the hub | in the model | model types |\n|---|---|---|---|\n";
    for (const sf::known_family& each : sf::shipped_families::all) {
        out += "| `" + std::string{each.fuse.name} + "` | " + tensors_of(each.fuse, true) + " | " +
               (each.fuse.module_at(0).is_same() ? "the same" : tensors_of(each.fuse, false)) + " | ";
        for (std::size_t i = 0; i < each.fuse.model_types.size(); ++i)
            out += (i == 0 ? "" : ", ") + std::string{each.fuse.model_types[i]};
        out += " |\n";
    }
    return out;
}

}  // namespace

TEST_CASE("readme: the table of families is the one in the code") {
    std::ifstream file{SAFEFUSE_SOURCE_DIR "/README.md"};
    const std::string readme{std::istreambuf_iterator<char>{file}, {}};
    const std::string begin = "<!-- families: kept equal to layouts/families.hpp by the tests -->\n",
                      end = "<!-- end of families -->";
    const std::size_t first = readme.find(begin), last = readme.find(end);
    REQUIRE(first != std::string::npos);
    REQUIRE(last != std::string::npos);
    CHECK(readme.substr(first + begin.size(), last - first - begin.size()) == table_of_families());
}
