// Does a fused checkpoint contain exactly the bytes of the one it was made from? Neither is loaded.
#include "convert_checkpoint.hpp"

namespace sf = safefuse;

int main(int argc, char** argv) {
    command_line::arguments arguments{
        argc, argv,
        "usage: verify_fused UNFUSED FUSED [options]\n"
        "Compares FUSED with the result of fusing UNFUSED: every byte, names, dtypes and shapes.\n"
        "  --family NAME         the family or model type; default: config.json's model_type,\n"
        "                        else by names\n"
        "  --any-expert-count    accept any number of experts, whatever config.json says (pruned\n"
        "                        checkpoints)\n"
        "  --variant V           read variant V of UNFUSED, such as fp16\n"
        "  --keep-unknown        tensors that look like experts and fit no known form were passed\n"
        "                        through\n"
        "  --quiet               print errors only\n"};
    const std::string family = arguments.family();
    const std::string variant = arguments.value("--variant", "");
    const bool keep_unknown = arguments.flag("--keep-unknown");
    const bool any_expert_count = arguments.flag("--any-expert-count"),
               quiet = arguments.flag("--quiet");
    if (!arguments.positional(2)) return arguments.status();

    const command_line::stopwatch watch;
    for (const std::size_t i : {0u, 1u})
        if (const auto whole = convert_checkpoint::check_finished(arguments[i]); !whole)
            return command_line::report(whole.error());
    sf::checkpoint_report notes;
    const auto unfused = sf::checkpoint::open(arguments[0], {.variant = variant}, notes);
    if (!unfused) return command_line::report(unfused.error());
    const auto fused = sf::checkpoint::open(arguments[1]);
    if (!fused) return command_line::report(fused.error());
    const auto chosen = choose_family::choose(
        convert_checkpoint::text_of(convert_checkpoint::directory_of(arguments[0])), *unfused,
        {.family = family, .any_expert_count = any_expert_count});
    if (!chosen) return command_line::report(chosen.error());
    if (const auto filled = choose_family::check_elements(*unfused, chosen->family); !filled)
        return command_line::report(filled.error());
    const auto plan = sf::rewrite_plan::make(*unfused, chosen->family, sf::direction::forward,
                                             chosen->options(keep_unknown));
    if (!plan) return convert_checkpoint::report_plan(plan.error(), *chosen, *unfused);
    // swapped arguments: the first checkpoint is fused, and the second is its source
    if (convert_checkpoint::already_done(*plan) == plan->scopes().experts_count()) {
        const auto other = sf::experts_scopes::find(*fused, chosen->family);
        for (std::size_t s = 0; other && s < other->experts_count(); ++s) {
            if ((*other)[s].form != sf::scope_state::pending) continue;
            std::fprintf(stderr,
                         "error: %s contains fused experts and %s unfused ones: are the arguments "
                         "swapped?\n",
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
