// What is in this checkpoint? Reads headers only.
#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "command_line.hpp"
#include "convert_checkpoint.hpp"

namespace sf = safefuse;
using command_line::json_string, command_line::printable;

namespace {

std::string shape_text(sf::shape_view shape) {
    std::string out = "[";
    for (std::size_t a = 0; a < shape.size(); ++a)
        out += (a == 0 ? "" : ", ") + std::to_string(shape[a]);
    return out + "]";
}

/// The stored form of a scope's experts, or their problem.
struct experts_line {
    std::string scope, form, problem;
    std::uint64_t experts = 0;
    std::vector<std::string> outputs;
    std::uint64_t size_bytes = 0, run_bytes = 0;
};

struct facts {
    std::uint64_t bytes = 0, aligned = 0, aligned_64 = 0, aligned_4096 = 0;
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>>
        dtypes;  // name -> tensors, bytes
    std::vector<std::string> problems, notes;
    std::string model_type, family, family_problem;
    bool is_told = false;
    std::vector<experts_line> experts;
    // modules that the family's models store differently from the hub
    std::size_t other_modules = 0;
};

facts look_at(const sf::checkpoint& checkpoint, const std::string& path,
              const std::string& wanted) {
    facts out;
    std::pair<std::uint64_t, std::uint64_t> by_dtype[256]{};
    for (std::size_t i = 0; i < checkpoint.size(); ++i) {
        const sf::tensor_spec spec = checkpoint.spec(i);
        const sf::tensor_location place = checkpoint.place(i);
        const std::uint64_t element_bytes = sf::bits(spec.type) < 8 ? 1 : sf::bits(spec.type) / 8;
        out.bytes += place.size_bytes;
        out.aligned += place.offset % element_bytes == 0 ? 1 : 0;
        out.aligned_64 += place.offset % 64 == 0 ? 1 : 0;
        out.aligned_4096 += place.offset % 4096 == 0 ? 1 : 0;
        auto& [count, bytes] = by_dtype[static_cast<std::size_t>(spec.type)];
        ++count, bytes += place.size_bytes;
    }
    for (std::size_t type = 0; type < std::size(by_dtype); ++type)
        if (by_dtype[type].first != 0)
            out.dtypes[std::string{sf::name(static_cast<sf::dtype>(type))}] = by_dtype[type];
    const auto chosen =
        choose_family::choose(convert_checkpoint::text_of(convert_checkpoint::directory_of(path)),
                              checkpoint, {.family = wanted});
    if (!chosen) {
        out.family_problem = chosen.error().message().c_str();
        out.problems.push_back(out.family_problem);
        return out;
    }
    const sf::family_description* const family = &chosen->family;
    out.model_type = chosen->model_type;
    out.is_told = chosen->is_told;
    out.notes = chosen->notes;
    const auto scopes = sf::experts_scopes::find(checkpoint, *family);
    if (!scopes) {
        out.problems.push_back(scopes.error().message().c_str());
        return out;
    }
    if (chosen->is_told || scopes->experts_count() != 0)
        out.family = family->name;
    else
        out.family_problem = "none";
    bool is_empty = false;  // if empty, the shapes are already known to be wrong
    if (const auto filled = sf::check_experts_have_elements(checkpoint, *family, *scopes); !filled)
        is_empty = true, out.problems.push_back(filled.error().message().c_str());
    const auto unknown = sf::find_unknown_experts(checkpoint, *scopes);
    if (unknown && unknown->count != 0) {
        sf::failure why = sf::describe(checkpoint, *unknown, *family);
        choose_family::add_hint(why, *chosen, checkpoint);
        out.problems.push_back(why.message().c_str());
    } else if (!unknown) {
        out.problems.push_back(unknown.error().message().c_str());
    }
    for (std::size_t s = 0; s < scopes->experts_count(); ++s) {
        const sf::experts_scope scope = (*scopes)[s];
        static constexpr const char* forms[] = {"as stored on the hub", "fused", "both"};
        experts_line line{
            std::string{scope.name}, forms[static_cast<int>(scope.form)], {}, 0, {}, 0, 0};
        auto plan = sf::plan(checkpoint, scope, *family, sf::direction::forward, chosen->options());
        // the model may be pruned, so the number of experts in the checkpoint is used
        if (!plan && plan.error().code == sf::errc::unexpected_extent) {
            out.notes.push_back("config.json says otherwise: " +
                                std::string{plan.error().message().view()});
            plan = sf::plan(checkpoint, scope, *family, sf::direction::forward);
        }
        if (plan) {
            line.form = forms[static_cast<int>(plan->source_form())];
            if (!plan->kept_for().empty())
                out.notes.push_back(
                    "experts \"" + line.scope +
                    "\" are fused already and are copied whole, because they cannot be split: " +
                    std::string{plan->kept_for()});
            line.experts = plan->expert_count();
            line.size_bytes = plan->size_bytes();
            for (std::size_t o = 0; o < plan->outputs().size(); ++o) {
                const sf::plan_output& output = plan->outputs()[o];
                line.outputs.push_back(std::string{output.local_name} + " " +
                                       std::string{sf::name(output.type)} + " " +
                                       shape_text(output.shape));
                if (plan->single_run(o) != nullptr) line.run_bytes += output.size_bytes;
                if (const auto scales =
                        output.per_part_scales == 0
                            ? sf::result<sf::collected_entries>{sf::collected_entries{}}
                            : sf::compare_scales(*plan, o);
                    !scales)
                    out.problems.push_back(scales.error().message().c_str());
                else if (scales->differing != 0)
                    out.notes.push_back(
                        std::string{output.name} + ": the entries of " +
                        std::to_string(scales->differing) + " of " +
                        std::to_string(scales->experts) +
                        " experts differ; an engine with one scale for gate and up must rescale");
            }
        } else {
            line.problem = plan.error().message().c_str();
            if (!is_empty) out.problems.push_back(line.problem);
        }
        out.experts.push_back(std::move(line));
    }
    out.other_modules = scopes->size() - scopes->experts_count();
    return out;
}

void print_text(const sf::checkpoint& checkpoint, const facts& all, bool tensors, bool experts) {
    std::printf("tensors    %zu in %zu file%s, %s\n", checkpoint.size(), checkpoint.file_count(),
                checkpoint.file_count() == 1 ? "" : "s",
                command_line::size_text(all.bytes).c_str());
    for (const auto& [name, counts] : all.dtypes)
        std::printf("           %-12s %8llu tensors  %s\n", name.c_str(),
                    static_cast<unsigned long long>(counts.first),
                    command_line::size_text(counts.second).c_str());
    for (std::size_t f = 0; f < checkpoint.file_count(); ++f) {
        const auto& file = checkpoint.file(f);
        std::printf("file       %s: %zu tensors, header %s", printable(file.path()).c_str(),
                    file.size(), command_line::size_text(file.header().header_bytes()).c_str());
        for (std::size_t m = 0; m < file.header().metadata_size(); ++m)
            std::printf(", %s=%s", printable(file.header().metadata(m).key).c_str(),
                        printable(file.header().metadata(m).value).c_str());
        std::printf("\n");
    }
    std::printf(
        "alignment  %llu of %zu tensors begin at a multiple of their element, %llu of 64, %llu of "
        "4096 bytes\n",
        static_cast<unsigned long long>(all.aligned), checkpoint.size(),
        static_cast<unsigned long long>(all.aligned_64),
        static_cast<unsigned long long>(all.aligned_4096));
    if (all.family.empty())
        std::printf("experts    %s\n", all.family_problem.c_str());
    else
        std::printf("experts    %zu modules, family %s%s\n", all.experts.size(), all.family.c_str(),
                    !all.is_told ? ", by the names"
                    : all.model_type.empty()
                        ? ", as requested"
                        : (" (model_type " + printable(all.model_type) + ")").c_str());
    std::map<std::string, std::size_t> forms;
    for (const experts_line& line : all.experts) ++forms[line.form];
    for (const auto& [form, count] : forms) std::printf("           %zu %s\n", count, form.c_str());
    if (all.other_modules != 0)
        std::printf("           %zu other modules that the model stores differently\n",
                    all.other_modules);
    std::uint64_t expert_bytes = 0, copy_free_bytes = 0;
    for (const experts_line& line : all.experts)
        expert_bytes += line.size_bytes, copy_free_bytes += line.run_bytes;
    if (expert_bytes != 0)
        std::printf(
            "copy-free  %s of %s of experts are contiguous in the model's order (%.0f%%)\n",
            command_line::size_text(copy_free_bytes).c_str(),
            command_line::size_text(expert_bytes).c_str(),
            100.0 * static_cast<double>(copy_free_bytes) / static_cast<double>(expert_bytes));
    if (experts)
        for (const experts_line& line : all.experts) {
            std::printf("           %s: %s, %llu experts, %s", printable(line.scope).c_str(),
                        line.form.c_str(), static_cast<unsigned long long>(line.experts),
                        command_line::size_text(line.size_bytes).c_str());
            for (const std::string& output : line.outputs)
                std::printf(", %s", printable(output).c_str());
            std::printf("\n");
        }
    if (tensors)
        for (std::size_t i = 0; i < checkpoint.size(); ++i) {
            const sf::tensor_spec spec = checkpoint.spec(i);
            std::printf("tensor     %-70s %-8s %s\n", printable(spec.name).c_str(),
                        std::string{sf::name(spec.type)}.c_str(), shape_text(spec.shape).c_str());
        }
    for (const std::string& note : all.notes)
        std::printf("note       %s\n", printable(note).c_str());
    for (const std::string& problem : all.problems)
        std::printf("problem    %s\n", printable(problem).c_str());
    if (all.problems.empty()) std::printf("problems   none\n");
}

void print_json(const sf::checkpoint& checkpoint, const facts& all, bool tensors) {
    const auto number = [](std::uint64_t n) { return std::to_string(n); };
    std::string out = "{\"tensor_count\": " + number(checkpoint.size()) +
                      ", \"size_bytes\": " + number(all.bytes) + ", \"dtypes\": {";
    const char* comma = "";
    for (const auto& [name, counts] : all.dtypes) {
        out += comma + json_string(name) + ": {\"tensors\": " + number(counts.first) +
               ", \"size_bytes\": " + number(counts.second) + "}";
        comma = ", ";
    }
    out += "}, \"files\": [";
    for (std::size_t f = 0; f < checkpoint.file_count(); ++f) {
        const auto& file = checkpoint.file(f);
        out += (f == 0 ? "" : ", ") + ("{\"path\": " + json_string(file.path())) +
               ", \"tensors\": " + number(file.size()) +
               ", \"header_bytes\": " + number(file.header().header_bytes()) + ", \"metadata\": {";
        for (std::size_t m = 0; m < file.header().metadata_size(); ++m)
            out += (m == 0 ? "" : ", ") + json_string(file.header().metadata(m).key) + ": " +
                   json_string(file.header().metadata(m).value);
        out += "}}";
    }
    out += "], \"aligned_to_element\": " + number(all.aligned) +
           ", \"aligned_to_64\": " + number(all.aligned_64) +
           ", \"aligned_to_4096\": " + number(all.aligned_4096);
    out += ", \"model_type\": " + json_string(all.model_type) +
           ", \"family\": " + (all.family.empty() ? "null" : json_string(all.family)) +
           ", \"experts\": [";
    for (std::size_t s = 0; s < all.experts.size(); ++s) {
        const experts_line& line = all.experts[s];
        out += (s == 0 ? "" : ", ") + ("{\"scope\": " + json_string(line.scope)) +
               ", \"form\": " + json_string(line.form) + ", \"experts\": " + number(line.experts) +
               ", \"size_bytes\": " + number(line.size_bytes) +
               ", \"copy_free_bytes\": " + number(line.run_bytes) + "}";
    }
    out += "]";
    for (const bool problems : {true, false}) {
        out += problems ? ", \"problems\": [" : ", \"notes\": [";
        const std::vector<std::string>& lines = problems ? all.problems : all.notes;
        for (std::size_t i = 0; i < lines.size(); ++i)
            out += (i == 0 ? "" : ", ") + json_string(lines[i]);
        out += "]";
    }
    for (std::size_t i = 0; tensors && i < checkpoint.size(); ++i) {
        const sf::tensor_spec spec = checkpoint.spec(i);
        const sf::tensor_location place = checkpoint.place(i);
        out += (i == 0 ? ", \"tensors\": [" : ", ") + ("{\"name\": " + json_string(spec.name)) +
               ", \"dtype\": " + json_string(sf::name(spec.type)) +
               ", \"shape\": " + shape_text(spec.shape) +
               ", \"file\": " + json_string(checkpoint.source_name(place.source)) +
               ", \"offset\": " + number(place.offset) +
               ", \"size_bytes\": " + number(place.size_bytes) + "}";
    }
    if (tensors) out += checkpoint.size() == 0 ? ", \"tensors\": []" : "]";
    std::printf("%s}\n", out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    command_line::arguments arguments{
        argc, argv,
        "usage: inspect PATH [options]\n"
        "Shows what a checkpoint contains: files, dtypes, sizes, metadata, experts, alignment and\n"
        "problems.\n"
        "  PATH        a directory, a model.safetensors.index.json or one .safetensors file\n"
        "  --tensors   list every tensor\n"
        "  --experts   list every experts module\n"
        "  --json      print JSON, for programs\n"
        "  --family NAME  the family or model type, instead of config.json's\n"
        "  --variant V    read variant V of a directory, such as fp16\n"
        "  --lenient   accept bytes that belong to no tensor, between or after the tensors\n"};
    const bool tensors = arguments.flag("--tensors"), experts = arguments.flag("--experts"),
               json = arguments.flag("--json");
    const std::string wanted = arguments.family();
    const std::string variant = arguments.value("--variant", "");
    const sf::checkpoint_options options{
        .read = arguments.flag("--lenient") ? sf::read_options::lenient() : sf::read_options{},
        .variant = variant};
    if (!arguments.positional(1)) return arguments.status();
    const std::string& path = arguments[0];

    sf::checkpoint_report report;
    const auto checkpoint = sf::checkpoint::open(path, options, report);
    const auto finished = convert_checkpoint::check_finished(path);
    if (!checkpoint && !finished) return command_line::report(finished.error());
    if (!checkpoint) {  // the first problem
        const auto all_wrong = sf::checkpoint::verify(path, options);
        if (!all_wrong || all_wrong->is_sound()) return command_line::report(checkpoint.error());
        for (const sf::failure& failure : all_wrong->failures()) command_line::report(failure);
        return command_line::failed;
    }

    facts all = look_at(*checkpoint, path, wanted);
    if (!finished) all.problems.push_back(finished.error().message().c_str());
    for (const sf::checkpoint_note& note : report.notes())
        all.notes.push_back(note.message().c_str());
    if (json)
        print_json(*checkpoint, all, tensors);
    else
        print_text(*checkpoint, all, tensors, experts);
    return all.problems.empty() ? command_line::success : command_line::failed;
}
