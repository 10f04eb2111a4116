// Prints the tables of include/safefuse/models/README.md from the registry: families, engines and
// the fields of quantised formats.
//   model_tables PAGE            compares; ends with 1 if a table in PAGE is not the one of the
//   code model_tables --write PAGE    puts the tables into PAGE
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include <safefuse/models.hpp>

namespace sf = safefuse;

namespace {

std::string code(std::string_view text) { return "`" + std::string{text} + "`"; }

void list(std::string& out, const std::string& item) { out += (out.empty() ? "" : ", ") + item; }

// Families
// ------------------------------------------------------------------------------------------

/// The tensors of a layout below a module, the module's name at the first of them only.
std::string tensors_of(const sf::layout_description& layout, std::string_view module) {
    std::string out;
    for (const sf::tensor_description& tensor : layout.tensors) {
        const std::string name = std::string{tensor.name} + "`";
        if (out.find("`" + name) != std::string::npos || out.find("." + name) != std::string::npos)
            continue;  // several groups of experts
        list(out, out.empty() ? "`" + std::string{module} + "." + name : "`" + name);
    }
    return out;
}

std::string tensors_of(const sf::family_description& family, bool stored) {
    std::string out;
    for (std::size_t m = 0; m < family.module_count(); ++m) {
        const sf::module_description module = family.module_at(m);
        out += (m == 0 ? "" : "; ") + (stored ? tensors_of(*module.from, module.from_path)
                                              : tensors_of(*module.to, module.to_path));
    }
    return out;
}

std::string table_of_families() {
    std::string out =
        "| family | experts on the hub | in the model | model types |\n|---|---|---|---|\n";
    for (const sf::family_description& each : sf::shipped_families::all) {
        const bool is_same = each.module_at(0).is_same() && each.extra_modules.empty();
        std::string types;
        for (const std::string_view type : each.model_types) list(types, std::string{type});
        out += "| " + code(each.name) + " | " + tensors_of(each, true) + " | " +
               (is_same ? "the same" : tensors_of(each, false)) + " | " + types + " |\n";
    }
    return out;
}

// Engines
// -------------------------------------------------------------------------------------------

/// An extent as a product of named ones: 2I, E*I.
std::string extent_text(const sf::stored_axis& axis, const sf::layout_args& x) {
    std::string out;
    for (std::size_t dim = 0; dim < x.dim_count; ++dim)
        if (axis.dims >> dim & 1) out += (out.empty() ? "" : "*") + std::string{x.names[dim]};
    return (axis.coefficient == 1 ? "" : std::to_string(axis.coefficient)) + out;
}

std::string shape_text(const sf::mapping& placed, const sf::layout_args& x) {
    std::string out;
    for (std::size_t a = 0; a < placed.axis_count; ++a)
        if (placed.axes[a].present) list(out, extent_text(placed.axes[a], x));
    return "[" + out + "]";
}

/// Which part each entry of an axis is of, for a tensor that contains several parts.
std::vector<std::string_view> parts_along(const sf::mapping& placed, std::size_t axis) {
    std::vector<std::string_view> out(static_cast<std::size_t>(placed.axes[axis].extent));
    for (std::size_t p = 0; p < placed.part_count; ++p) {
        const sf::part_mapping& part = placed.parts[p];
        std::vector<std::uint64_t> entries{part.first[axis]};
        for (std::size_t m = 0; m < part.mode_count; ++m) {
            if (part.modes[m].axis != axis) continue;
            std::vector<std::uint64_t> more;
            for (const std::uint64_t entry : entries)
                for (std::uint64_t digit = 0; digit < part.modes[m].extent; ++digit)
                    more.push_back(entry + digit * part.modes[m].stride);
            entries = more;
        }
        for (const std::uint64_t entry : entries) out[static_cast<std::size_t>(entry)] = part.part;
    }
    return out;
}

/// In which order a tensor contains its parts: "gate, then up", "1 of gate, 1 of up, ...".
std::string order_text(const sf::mapping& placed) {
    for (std::size_t axis = 0; axis < placed.axis_count; ++axis) {
        const auto parts = parts_along(placed, axis);
        std::vector<std::pair<std::string_view, std::size_t>> runs;
        for (const std::string_view part : parts)
            if (runs.empty() || runs.back().first != part)
                runs.emplace_back(part, 1);
            else
                ++runs.back().second;
        if (runs.size() < 2) continue;
        const bool is_turn = runs.size() > placed.part_count;
        std::string out;
        for (std::size_t i = 0; i < placed.part_count; ++i)
            list(out, (is_turn ? std::to_string(runs[i].second) + " of " : "") +
                          std::string{runs[i].first});
        return out + (is_turn ? ", in turn" : "");
    }
    return {};
}

std::string table_of_engines() {
    std::string out =
        "| engine | tensors | order in the first | scope | names of fields |\n"
        "|---|---|---|---|---|\n";
    for (const sf::engine_entry& each : sf::shipped_engines::all) {
        sf::layout_args x;
        x.values[0] = 2;
        x.values[x.dim("I")] = 128;
        x.values[x.dim("H")] = 6;
        std::string tensors, order, fields;
        for (const sf::tensor_description& tensor : each.layout->tensors) {
            const sf::mapping placed = tensor.place(x);
            list(tensors, code(tensor.name) + " " + shape_text(placed, x));
            if (order.empty()) order = order_text(placed);
        }
        for (const sf::field_suffix& field : each.layout->fields)
            list(fields, field.suffix.empty() ? "(none)" : code(field.suffix));
        out += "| " + code(each.name) + " | " + tensors + " | " +
               (order.empty() ? "apart" : order) + " | " + code(each.scope) + " | " + fields +
               " |\n";
    }
    return out;
}

// Fields
// --------------------------------------------------------------------------------------------

/// What one form stores of a matrix [R, C]: its shape.
std::string form_text(const sf::field_form& form) {
    std::vector<std::string> axes;
    for (std::size_t a = 0; a < 2; ++a) {
        const std::uint64_t block = form.block_size[a];
        const std::string name = a == 0 ? "R" : "C";
        if (block == sf::whole_axis)
            axes.push_back("1");
        else if (block != 0)
            axes.push_back(block == 1 ? name : name + "/" + std::to_string(block));
    }
    if (form.is_transposed && axes.size() == 2) std::swap(axes[0], axes[1]);
    if (form.entries != 0) axes.push_back(std::to_string(form.entries));
    std::string out;
    for (const std::string& axis : axes) list(out, axis);
    return "[" + out + "]";
}

const char* role_text(sf::field_role role) {
    switch (role) {
    case sf::field_role::value: return "the matrix";
    case sf::field_role::addend: return "added to the product";
    case sf::field_role::scale: return "a factor";
    case sf::field_role::other: break;
    }
    return "goes along";
}

std::string suffix_in(const sf::layout_description& layout, std::string_view name) {
    for (const sf::field_suffix& each : layout.fields)
        if (each.field->name == name) return std::string{each.suffix};
    return {};
}

std::string table_of_fields() {
    const sf::layout_description& stored = sf::layouts::per_expert::description;
    const sf::layout_description& fused = sf::layouts::gate_up_fused::description;
    std::string out =
        "| stored | fused | what it is | shapes for a matrix [R, C] |\n|---|---|---|---|\n";
    for (const sf::field_suffix& each : stored.fields) {
        std::string forms;
        for (const sf::field_form& form : each.field->forms) list(forms, form_text(form));
        out += "| `gate_proj" + std::string{each.suffix} + "` | `gate_up_proj" +
               suffix_in(fused, each.field->name) + "` | " + role_text(each.field->role) + " | " +
               forms + " |\n";
    }
    return out;
}

/// Puts a table between its two marks in the page; false without the marks.
bool put(std::string& page, const std::string& name, const std::string& table) {
    const std::string begin = "<!-- " + name + ": made by model_tables -->\n";
    const std::string end = "<!-- end of " + name + " -->";
    const std::size_t first = page.find(begin), last = page.find(end);
    if (first == std::string::npos || last == std::string::npos) return false;
    page.replace(first + begin.size(), last - first - begin.size(), table);
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    const bool write = argc == 3 && std::strcmp(argv[1], "--write") == 0;
    if (argc != 2 && !write) {
        std::fprintf(stderr, "usage: model_tables [--write] PAGE\n");
        return 2;
    }
    const char* const path = argv[argc - 1];
    std::ifstream in{path, std::ios::binary};
    const std::string before{std::istreambuf_iterator<char>{in}, {}};
    std::string page = before;
    const std::pair<const char*, std::string> tables[] = {{"families", table_of_families()},
                                                          {"engines", table_of_engines()},
                                                          {"fields", table_of_fields()}};
    for (const auto& [name, table] : tables)
        if (!put(page, name, table)) {
            std::fprintf(stderr, "error: %s has no marks for the table of %s\n", path, name);
            return 1;
        }
    if (write) return std::ofstream{path, std::ios::binary} << page ? 0 : 1;
    if (page == before) return 0;
    std::fprintf(stderr, "error: a table in %s is not the one of the code; --write mends it\n",
                 path);
    return 1;
}
