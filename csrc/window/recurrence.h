// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The window of models of contract 1, of those of contract 2 that ask for it, and of no model
// at all: the runs of LR pictures between HR pictures, and the paper's recurrence in each
// (docs/model.md). The HR pictures may be enhanced first, by a model of contract 2 that sees what
// is around them.
#pragma once

#include "window/neighbourhood.h"
#include "window/window.h"

#include <deque>
#include <optional>

namespace tds {

class Recurrence : public Window {
  public:
    struct Settings {
        bool references = true;              // there is a model
        bool runs_without_reference = false; // and it needs none
        bool causal = false;
        size_t max_group = 64, max_batch = 4;
        std::optional<Neighbourhood::Settings> refine; // of HR pictures
    };
    explicit Recurrence(Settings settings);

    bool takes(tds_role role, bool lost) const override;
    bool ready() const override { return closing_ || can_start(); }
    Group plan() override;
    unsigned wants() const override;

  private:
    void advance() override;
    std::optional<Neighbourhood::Resolved> next();
    bool can_start() const;
    RecipePtr next_hr() const;                 // of the first HR picture not handed out
    bool hr_over() const;                      // whether no other one will be
    std::vector<const Event *> coming() const; // after run_, and not known to be its end
    size_t lr_held() const;
    size_t hr_markers() const;

    // The steps of a run's plan.
    struct Boundaries {
        RecipePtr first, last;
        unsigned reason = 0; // of every picture between them
        bool both() const { return first && last; }
    };
    Boundaries boundaries();
    size_t share(const Boundaries &between) const; // how much of run_ is planned now
    RecipePtr recipe(const Event &event, Reference first, Reference last) const;
    RecipePtr from_boundaries(const Event &event, size_t index, const Boundaries &between) const;
    Reference boundary(const Boundaries &between, bool last, size_t index) const;
    void make(Group &group, const Boundaries &between);
    void repeat(Group &group, const Boundaries &between);
    RecipePtr nearest(const Group &group, size_t index, const Boundaries &between) const;
    Group pass(Target closing);

    Settings settings_;
    std::optional<Neighbourhood> around_; // where HR pictures are enhanced
    std::deque<Event> run_;               // in time order, after first_, before closing_
    std::optional<Target> closing_;       // an HR picture whose turn comes after run_
    RecipePtr first_;                     // of the HR picture before run_
    RecipePtr previous_;                  // of the last LR picture of this run that was planned
    size_t planned_ = 0;                  // places between first_ and run_
    bool long_run_ = false;               // run_ is what is left of a longer one
    bool run_has_lost_hr_ = false;
};

} // namespace tds
