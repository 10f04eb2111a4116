// Does a fused checkpoint hold exactly the bytes of the one it was made from? Neither is loaded.
#include "convert_checkpoint.hpp"

namespace sf = safefuse;

int main(int argc, char** argv) {
    command_line::arguments arguments{
        argc, argv,
        "usage: verify_fused UNFUSED FUSED [options]\n"
        "Compares every byte of FUSED with what fusing UNFUSED gives, and the names, dtypes and\n"
        "shapes.\n"
        "  --family NAME         the family or model type; default: config.json's model_type,\n"
        "                        else from the names\n"
        "  --any-expert-count    do not ask for as many experts as config.json says (pruned\n"
        "                        checkpoints)\n"
        "  --variant V           of UNFUSED read what is of variant V, such as fp16\n"
        "  --keep-unknown        what looks like an expert and fits no known form was passed\n"
        "                        through\n"
        "  --quiet               say nothing but errors\n"};
    const std::string layout = arguments.value("--family", arguments.value("--layout", ""));
    const std::string variant = arguments.value("--variant", "");
    const bool keep_unknown = arguments.flag("--keep-unknown");
    const bool any_expert_count = arguments.flag("--any-expert-count"),
               quiet = arguments.flag("--quiet");
    if (!arguments.positional(2)) return arguments.status();

    const command_line::stopwatch watch;
    sf::checkpoint_report notes, fused_notes;
    const auto unfused = convert_checkpoint::open_checkpoint<sf::mapped_file>(arguments[0], notes,
                                                                              {.variant = variant});
    if (!unfused) return command_line::report(unfused.error());
    const auto fused =
        convert_checkpoint::open_checkpoint<sf::mapped_file>(arguments[1], fused_notes);
    if (!fused) return command_line::report(fused.error());
    const auto chosen = choose_family::choose(
        convert_checkpoint::text_of(convert_checkpoint::directory_of(arguments[0])), *unfused,
        {.family = layout, .any_expert_count = any_expert_count});
    if (!chosen) return command_line::report(chosen.error());
    if (const auto filled = choose_family::check_elements(*unfused, chosen->family.fuse); !filled)
        return command_line::report(filled.error());
    const auto plan =
        sf::rewrite_plan::make(*unfused, chosen->family.fuse, chosen->options(keep_unknown));
    if (!plan) return convert_checkpoint::report_plan(plan.error(), *chosen, *unfused);
    // arguments the other way round: the first is fused, and the second is what it was made from
    if (convert_checkpoint::already_done(*plan) == plan->scopes().experts_count()) {
        const auto other = sf::experts_scopes::find(*fused, chosen->family.fuse);
        for (std::size_t s = 0; other && s < other->experts_count(); ++s) {
            if ((*other)[s].form != sf::scope_state::pending) continue;
            std::fprintf(
                stderr,
                "error: %s holds fused experts and %s experts as they are stored: are the two "
                "arguments swapped?\n",
                arguments[0].c_str(), arguments[1].c_str());
            return command_line::failed;
        }
    }
    {
        command_line::progress_display progress{quiet};
        if (auto same = sf::verify_rewritten(*plan, *fused, progress); !same)
            return command_line::report(same.error());
    }
    if (!quiet) {
        std::printf("%s: %zu tensors, each byte as in %s\n",
                    command_line::printable(arguments[1]).c_str(), plan->tensors().size(),
                    command_line::printable(arguments[0]).c_str());
        command_line::summarise(plan->total_bytes(), watch);
    }
    return command_line::success;
}
